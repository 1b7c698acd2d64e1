"""The one exception that reaches a user as a sentence instead of a traceback."""


class InputError(Exception):
    """Bad input: the message says what was found, what was expected, and what to do."""
