"""The one error that is meant for the person at the keyboard."""


class UserError(ValueError):
    """Bad input: its message is one sentence that says what was got, what is allowed and what to do.

    The command line prints the message without a traceback and exits with status 1.
    """
