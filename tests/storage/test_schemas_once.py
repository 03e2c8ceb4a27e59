"""The databases of tests are those that migrations make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from lawfit.storage import Store
from tests import schemas_once
from tests.conftest import own_postgres_schema

CATALOGUES = {
    "sqlite": ["SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"],
    "postgresql": [
        (
            "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 3"
        ),
        (
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = current_schema()::regnamespace ORDER BY 1, 2"
        ),
        "SELECT tablename, indexname FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1, 2",
        (
            "SELECT event_object_table, trigger_name, action_statement FROM information_schema.triggers "
            "WHERE trigger_schema = current_schema() ORDER BY 1, 2"
        ),
    ],
}


def catalogue(url: str) -> list[tuple[str, ...]]:
    """All that a database says of its tables."""
    with Store.open(url) as store, store.reading() as connection:
        asked = CATALOGUES[connection.dialect.name]
        own = connection.execute(sa.text("SELECT current_schema()")).scalar() if len(asked) > 1 else ""
        rows = [tuple(map(str, row)) for query in asked for row in connection.execute(sa.text(query))]
        rows += [("revision", str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()))]
    return [tuple(cell.replace(f"{own}.", "") if own else cell for cell in row) for row in rows]


def another(url: str) -> Iterator[str]:
    if "://" in url:
        yield from own_postgres_schema()
    else:
        yield f"{url}.another"


def test_what_is_sent_again_makes_what_migrations_make(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for first in another(database_url):
        catalogue(first)  # from now on it is known
    kept = catalogue(database_url)
    monkeypatch.setattr(schemas_once, "KEEPS", False)
    for other in another(database_url):
        assert catalogue(other) == kept
    assert len(kept) > 40
