"""The errors that are meant for the person at the keyboard."""

import contextlib
import errno
from collections.abc import Iterator

FULL_DEVICE = "RESOURCE_EXHAUSTED"  # in what JAX says

PASSING_STATUS = 75  # EX_TEMPFAIL of sysexits.h: start the run again

# What a new start would meet again; other errors of files, such as those of a network folder, may pass.
_LASTING = (
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT,
    errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip


class UserError(ValueError):
    """Bad input: its message is one sentence that says what was got, what is allowed and what to do.

    The command line prints the message without a traceback and exits with `exit_status`.
    """

    exit_status = 1


class PassingError(UserError):
    """A problem that may be gone by itself: a launcher may start the run again."""

    exit_status = PASSING_STATUS


def of_file(code: int, message: str) -> UserError:
    """The error for what a file system said.

    Args:
      code: `errno` of it; most lasting ones (no room, not allowed) are told from those that may pass.
      message: one sentence.
    """
    return (UserError if code in _LASTING else PassingError)(message)


def first_line(error: BaseException) -> str:
    """What an error says, in one line without its full stop; the name of its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextlib.contextmanager
def full_device(advice: str) -> Iterator[None]:
    """Says what to do when a device has too little memory for what is inside; also a decorator.

    Args:
      advice: such as "lower config.train.batch_size".

    Raises:
      UserError: then.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or FULL_DEVICE not in str(error):
            raise
        message = f"the device has too little memory ({first_line(error)}); {advice}."
        raise UserError(message) from error
