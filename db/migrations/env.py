"""Alembic's entry: runs migrations on the engine that db.engine hands over, one process at a time."""

from alembic import context

from db.models import Base

LOCK = 0x0C0C0  # any fixed number: PostgreSQL's advisory lock for migrations of this store

with context.config.attributes["engine"].begin() as connection:  # on SQLite this takes the write lock
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    context.configure(connection=connection, target_metadata=Base.metadata)
    context.run_migrations()
