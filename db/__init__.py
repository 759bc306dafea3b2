"""The attribute store: tables, migrations, views and queries, on SQLite or PostgreSQL."""
