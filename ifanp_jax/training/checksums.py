"""Checksums of a folder, in the format of `sha256sum`, and what they say is damaged."""

import errno
import os
import pathlib

from ifanp_jax.files import hash_file

FILE_NAME = "SHA256SUMS"
# What reading says of a bad disk, or of a file where a folder should be: an older copy may be whole.
UNREADABLE = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENOTDIR, errno.EISDIR)


def write(folder: pathlib.Path) -> None:
    """Writes `SHA256SUMS` of every other file below a folder."""
    lines = (f"{hash_file(folder / name)}  {name}\n" for name in _list_files(folder))
    (folder / FILE_NAME).write_text("".join(lines))


def flush(path: pathlib.Path) -> None:
    """Waits until a file or folder is on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_damage(folder: pathlib.Path, *, required: tuple[str, ...] = ()) -> str | None:
    """Compares a folder with its `SHA256SUMS`; the files `required` must be there.

    Returns:
      One phrase that names the file and what is wrong with it; None where all is whole.

    Raises:
      OSError: when reading fails for another reason than a bad disk.
    """
    try:
        return _compare(folder, required)
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        return f"{error.filename or folder} cannot be read ({error.strerror})"
    except ValueError:
        return f"{folder / FILE_NAME} is no list of checksums"


def _compare(folder, required):
    text = (folder / FILE_NAME).read_bytes().decode("utf-8", "replace")
    expected = dict(reversed(line.split("  ", 1)) for line in text.split("\n")[:-1])
    files = _list_files(folder)
    for name in sorted({*expected, *files}):
        if name not in files:
            return f"{folder / name} is missing (or {FILE_NAME} is damaged)"
        if name not in expected:
            return f"{folder / name} is not in {folder / FILE_NAME}, which is damaged or cut off"
        if hash_file(folder / name) != expected[name]:
            return f"{folder / name} does not match its checksum in {FILE_NAME}"
    is_cut = not text.endswith("\n") or not set(required) <= set(files)
    return f"{folder / FILE_NAME} is cut off" if is_cut else None


def _list_files(folder):
    """Every file below a folder but the checksums, by its name relative to the folder."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != FILE_NAME)
