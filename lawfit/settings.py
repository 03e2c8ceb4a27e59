"""Environment and `lawfit.toml` -> one frozen `Settings`; and where data/ and migrations/ are."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from lawfit.errors import LawfitError

CONFIG_FILE = "lawfit.toml"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a process may be told from outside. Precedence: command line, environment, lawfit.toml, default."""

    database_url: str = "lawfit.db"  # a file (SQLite) or a SQLAlchemy URL; LAWFIT_DATABASE_URL
    host: str = "127.0.0.1"  # `lawfit serve` binds here; LAWFIT_HOST
    port: int = 8765  # LAWFIT_PORT

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
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise LawfitError(f"{path} sets {', '.join(unknown)}; the settings are {', '.join(sorted(known))}")
        for name in known:
            if (text := environ.get(f"LAWFIT_{name.upper()}")) is not None:
                values[name] = text
        try:
            port = int(str(values.get("port", cls.port)))
        except ValueError:
            raise LawfitError(f"port must be a whole number, got {values['port']!r}") from None
        return cls(
            database_url=str(values.get("database_url", cls.database_url)),
            host=str(values.get("host", cls.host)),
            port=port,
        )


def data_folder() -> Path:
    """The shipped ``data/`` (laws.toml, our sweeps), in a checkout and in an installed wheel."""
    return Path(str(resources.files("lawfit_data")))


def migrations_folder() -> Path:
    """The Alembic scripts, in a checkout and in an installed wheel."""
    return Path(str(resources.files("lawfit_migrations")))
