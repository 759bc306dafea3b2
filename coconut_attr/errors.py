"""The base of errors that a user can mend."""


class UserError(Exception):
    """Its message says what is wrong, where, and what to do; the command line shows it without a traceback."""
