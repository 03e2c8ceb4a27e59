"""The database, opened for any verb."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lawfit.storage import Store


def open_store(url: str | Path, *, create: bool = True, dry_run: bool = False) -> Store:
    """Open the database, created and migrated on first use.

    Parameters
    ----------
    url : a file name ("lawfit.db"), or a SQLAlchemy URL
    create : a file that does not exist is made; otherwise it is an error
    dry_run : a file that does not exist is not created; an empty store in memory stands in for it

    Raises
    ------
    StoreError
        It cannot be opened; `SchemaOutOfDate` when a newer version of lawfit wrote it.
    """
    from lawfit.storage import Store
    from lawfit.storage.database import Location, check_file

    location = Location.parse(url)
    if dry_run and location.path is not None and not location.path.exists():
        check_file(location.path)
        return Store.open(":memory:")
    return Store.open(url, create=create)
