"""The error that a person who uses a trainer can mend."""


class UserError(Exception):
    """A mistake in what the user gave: a flag, a path, a list. Its text is one line that says what to change.

    The command line prints it as ``error: ...`` with exit status 2 and no traceback.
    """
