"""Files: written whole or not at all, and hashed."""

import contextlib
import hashlib
import pathlib
import tokenize
import zipfile
from collections.abc import Iterator

# What NumPy raises on damaged .npy and .npz files.
DAMAGED = (OSError, ValueError, EOFError, MemoryError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Has a file written whole or not at all.

    Args:
      path: of the file; one that is there is replaced when the new one is whole.

    Yields:
      Where to write it: a path beside it with the same suffix.

    Raises:
      OSError: that names the path, which the error of a write does not.
    """
    temporary = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(path)
        raise


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all; an OSError names it."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def hash_file(path: pathlib.Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
