"""Environment and `lawfit.toml` -> one frozen `Settings`; and where data/ and migrations/ are."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from lawfit.errors import LawfitError

CONFIG_FILE = "lawfit.toml"
SHIPPED_SWEEP = "proxy_sweep.csv"  # in `data_folder`: our own runs, to begin with
REQUIRE_TOKENS = ("auto", "always", "never")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a process may be told from outside. Precedence: command line, environment, lawfit.toml, default.

    In the environment each has the name of its field in capitals, LAWFIT_DATABASE_URL; lists are parted by commas.
    """

    database_url: str = "lawfit.db"  # a file (SQLite) or a SQLAlchemy URL
    host: str = "127.0.0.1"  # `lawfit serve` binds here
    port: int = 8765
    workers: int = 1  # processes that serve
    require_tokens: str = "auto"  # "always", "never"; auto: where the service listens beyond this machine
    allowed_hosts: tuple[str, ...] = ()  # names that the service is reached by, beside those of loopback; * is any
    cors_origins: tuple[str, ...] = ()  # pages of other sites that may ask, such as https://team.example
    root_path: str = ""  # below which a proxy shows the service, such as /lawfit
    max_body_mb: int = 256  # of an upload
    training_templates: str = ""  # a file of what clients may have trained, by name; empty: nothing

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
        """Read the environment and, below it, ``lawfit.toml`` of the working folder.

        Raises
        ------
        LawfitError
            The file is not TOML, names a setting that does not exist, or holds a value of the wrong type.
        """
        environ = os.environ if environ is None else environ
        path = (folder or Path.cwd()) / CONFIG_FILE
        values: dict[str, object] = {}
        if path.is_file():
            try:
                values.update(tomllib.loads(path.read_text(encoding="utf-8")))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise LawfitError(f"{path} is not valid TOML: {error}") from None
        known = {f.name: f.default for f in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise LawfitError(f"{path} sets {', '.join(unknown)}; the settings are {', '.join(sorted(known))}")
        for name in known:
            if (text := environ.get(f"LAWFIT_{name.upper()}")) is not None:
                values[name] = text
        read = {name: _read(name, value, known[name]) for name, value in values.items()}
        found = cls(**read)  # type: ignore[arg-type]
        if found.require_tokens not in REQUIRE_TOKENS:
            choices = ", ".join(REQUIRE_TOKENS)
            raise LawfitError(f"require_tokens must be one of {choices}, got '{found.require_tokens}'")
        return found

    @property
    def tokens_needed(self) -> bool:
        """Whether requests need a token."""
        return self.require_tokens == "always" or (self.require_tokens == "auto" and not is_loopback(self.host))


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, which no other machine reaches."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read(name: str, value: object, default: object) -> object:
    if isinstance(default, tuple):
        parts = value if isinstance(value, list) else str(value).split(",")
        return tuple(str(part).strip() for part in parts if str(part).strip())
    if not isinstance(default, int):
        return str(value)
    try:
        return int(str(value))
    except ValueError:
        raise LawfitError(f"{name} must be a whole number, got {value!r}") from None


def data_folder() -> Path:
    """The shipped ``data/`` (laws.toml, our sweeps), in a checkout and in an installed wheel."""
    return Path(str(resources.files("lawfit_data")))


def migrations_folder() -> Path:
    """The Alembic scripts, in a checkout and in an installed wheel."""
    return Path(str(resources.files("lawfit_migrations")))
