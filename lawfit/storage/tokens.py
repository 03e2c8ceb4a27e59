"""Who may use the service: tokens with scopes, and what each of them changed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from lawfit.errors import NoToken, WrongToken
from lawfit.storage.database import now
from lawfit.storage.store import Store
from lawfit.storage.tables import audit, tokens

SCOPES: Final = ("read", "ingest", "fit", "launch", "admin")  # admin holds all others; each holds read
_PREFIX: Final = "lawfit_"  # so that scanners of repositories can find one that was committed
_BYTES: Final = 32
_USED_SECONDS: Final = 60  # how exact the time of the last use is: not every request writes
_KEPT_AUDIT_ROWS: Final = 100_000
_TRIMMED_EVERY: Final = 1000  # changes


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token, without what it opens with."""

    name: str
    scopes: tuple[str, ...]
    created_at: str  # ISO 8601, UTC, as all times here
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None

    @property
    def holds(self) -> frozenset[str]:
        """What it may do, with what its scopes hold too."""
        return frozenset(SCOPES if "admin" in self.scopes else ("read", *self.scopes))

    @property
    def state(self) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now() else "valid"


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """One change that came over HTTP."""

    at: str
    who: str  # name of the token; "" for a request from the machine itself without one
    address: str
    request_id: str
    action: str  # method and path
    status: int


def create_token(store: Store, name: str, scopes: Iterable[str], *, days: float | None = None) -> str:
    """The token itself, which is shown this once and kept nowhere.

    Parameters
    ----------
    days : until it expires; None: it does not

    Raises
    ------
    WrongToken
        The name is taken or empty, a scope is unknown, or it would have expired already.
    """
    name, wanted = name.strip(), sorted(set(scopes))
    if not name or len(name) > 100 or not name.isprintable():
        raise WrongToken("a token needs a name of at most 100 printable characters, such as the job that uses it")
    if unknown := [scope for scope in wanted if scope not in SCOPES]:
        raise WrongToken(f"there is no scope '{unknown[0]}'; scopes are {', '.join(SCOPES)}")
    if not wanted:
        raise WrongToken(f"a token needs a scope: {', '.join(SCOPES)}")
    if days is not None and not 0 < days <= 36_500:
        raise WrongToken(f"a token expires after more than 0 and at most 36,500 days, not {days:g}")
    token = _PREFIX + secrets.token_urlsafe(_BYTES)
    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")
    row = {"name": name, "hash": _hash(token), "scopes": " ".join(wanted), "created_at": now(), "expires_at": expires}
    with store.writing() as connection:
        if connection.execute(sa.select(tokens.c.id).where(tokens.c.name == name)).first():
            raise WrongToken(f"there is a token '{name}' already; give this one another name")
        connection.execute(sa.insert(tokens).values(row))
    return token


def list_tokens(store: Store) -> list[Token]:
    """All of them, revoked ones too, by name."""
    with store.reading() as connection:
        return [_token(row) for row in connection.execute(sa.select(tokens).order_by(tokens.c.name)).mappings()]


def revoke_token(store: Store, name: str) -> None:
    """From now on it opens nothing.

    Raises
    ------
    NoToken
        There is none of that name.
    """
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(tokens)
            .where(tokens.c.name == name)
            .values(revoked_at=sa.func.coalesce(tokens.c.revoked_at, now()))
        )
        if not changed.rowcount:
            raise NoToken(f"there is no token '{name}'")


def valid_token(store: Store, text: str) -> Token | None:
    """The token that a request gave, where it opens anything; its last use is written down to the minute."""
    with store.reading() as connection:
        row = connection.execute(sa.select(tokens).where(tokens.c.hash == _hash(text))).mappings().first()
    if row is None or (token := _token(row)).state != "valid":
        return None
    before = (datetime.now(UTC) - timedelta(seconds=_USED_SECONDS)).isoformat(timespec="seconds")
    if token.last_used_at is None or token.last_used_at < before:
        with store.writing() as connection:
            connection.execute(sa.update(tokens).where(tokens.c.id == row["id"]).values(last_used_at=now()))
    return token


def write_audit(store: Store, row: AuditRow) -> None:
    """Keep one change; of very many, the oldest go."""
    with store.writing() as connection:
        last = connection.execute(sa.insert(audit).values(vars(row)).returning(audit.c.id)).scalar_one()
        if last % _TRIMMED_EVERY == 0:
            connection.execute(sa.delete(audit).where(audit.c.id <= last - _KEPT_AUDIT_ROWS))


def audit_rows(store: Store, *, limit: int = 100) -> list[AuditRow]:
    """What was changed over HTTP, newest first."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    with store.reading() as connection:
        found = connection.execute(query).mappings().all()
    return [AuditRow(**{name: row[name] for name in AuditRow.__dataclass_fields__}) for row in found]


def _token(row: sa.RowMapping) -> Token:
    names = ("name", "created_at", "expires_at", "last_used_at", "revoked_at")
    return Token(scopes=tuple(row["scopes"].split()), **{name: row[name] for name in names})


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
