"""Administration of a database: its integrity, backups, and copies to another one."""
