"""Alembic's entry: runs migrations on the engine that db.schema hands over, one process at a time."""

from alembic import context

from db.engine import DatabaseUnavailable
from db.models import Base

LOCK = 0x0C0C0  # any fixed number: PostgreSQL's advisory lock for migrations of this store

with context.config.attributes["engine"].connect() as connection:
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        # It rebuilds a table by dropping it: that must neither delete the rows that refer to it nor look at its views.
        # Only outside of a transaction can that be set, and for this connection alone, which is not used again.
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
                f"a row of {orphan[0]} names a row of {orphan[2]} that is not there; nothing is migrated"
            )
