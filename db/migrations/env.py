"""Alembic's entry: runs migrations on the engine of db.schema, one process at a time."""

from alembic import context

from db.engine import DatabaseUnavailable
from db.models import Base

LOCK = 0x0C0C0  # PostgreSQL's advisory lock for our migrations: any fixed number

with context.config.attributes["engine"].connect() as connection:
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        # SQLite changes a table by dropping and rebuilding it. That must neither delete the rows
        # that refer to it nor check its views. Both settings work only outside a transaction and
        # for this connection, which is therefore not used again.
        for setting in ("foreign_keys=OFF", "legacy_alter_table=ON"):
            connection.connection.driver_connection.execute(f"PRAGMA {setting}")
        connection.detach()
    with connection.begin():  # on SQLite this takes the write lock
        if not sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        context.configure(connection=connection, target_metadata=Base.metadata)
        context.run_migrations()
        if sqlite and (orphan := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise DatabaseUnavailable(
                f"a row of {orphan[0]} refers to a missing row of {orphan[2]}; nothing is migrated"
            )
