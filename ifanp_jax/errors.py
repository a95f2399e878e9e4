"""The errors that are meant for the person at the keyboard."""

import contextlib
import errno
from collections.abc import Collection, Iterator
from typing import Any

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


def check_choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Refuses a value that is none of those allowed.

    Args:
      name: of the field, such as "config.mask.kind".
      value: of it.
      allowed: all that it may be.
    """
    if value not in allowed:
        listed = ", ".join(str(one) or "''" for one in allowed)
        raise UserError(f"{name} is {value!r}; choose one of {listed}.")


def check_range(name: str, value: Any, low: float, *, high: float | None = None) -> None:
    """Refuses a value that is no number from `low` to `high`, both included.

    Args:
      name: of the field, such as "config.train.num_steps".
      value: of it.
      low: lowest value.
      high: highest value; None = no limit.
    """
    is_number = isinstance(value, int | float)
    if not (is_number and low <= value and (high is None or value <= high)):
        limit = f"at least {low}" if high is None else f"between {low} and {high}"
        raise UserError(f"{name} is {value if is_number else repr(value)}; it must be {limit}.")


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
