"""Alembic's entry: on a connection handed over by lawfit, or (from the alembic command) on lawfit's database."""

from __future__ import annotations

from alembic import context

from lawfit.settings import Settings
from lawfit.storage.database import WRITE, Location, create_engine
from lawfit.storage.tables import metadata

config = context.config


def _migrate(connection: object) -> None:
    context.configure(
        connection=connection,  # type: ignore[arg-type]
        target_metadata=metadata,
        render_as_batch=True,  # SQLite can alter little in place
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _offline() -> None:
    location = Location.parse(Settings.load().database_url)
    context.configure(
        dialect_name=location.url.get_backend_name(), target_metadata=metadata, literal_binds=True, render_as_batch=True
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _offline()
elif (given := config.attributes.get("connection")) is not None:
    _migrate(given)  # the caller commits
else:
    engine = create_engine(Location.parse(Settings.load().database_url))
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        _migrate(connection)
    engine.dispose()
