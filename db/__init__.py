"""The attribute database: tables, migrations, views and queries, on SQLite or PostgreSQL."""
