"""Readers of annotations: each yields the records of `records`, whatever its format and place."""
