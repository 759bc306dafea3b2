"""Subcommands of `coconut-attr` that read or change the database."""
