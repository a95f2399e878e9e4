"""Decoded and resized images on disk, so that only the first run pays for decoding.

One uncompressed .npz per source and recipe: the arrays, and a JSON record with the fingerprint of the source,
the shapes and the skipped files. A file that is damaged, half written or stale is never used but rebuilt.
There is no pickle in it.
"""

import collections.abc
import hashlib
import json
import logging
import os
import pathlib
import re
import tempfile
import time

import numpy as np

from ifanp_jax.errors import first_line

logger = logging.getLogger(__name__)

_FORMAT = 2  # raise it when decoding or resizing changes its result
_RECORD = "record"
ABANDONED_SECONDS = 24 * 3600  # a file that is written for longer is no longer written

Arrays = dict[str, np.ndarray]
Build = collections.abc.Callable[[], tuple[Arrays, tuple[str, ...]]]


def default_dir() -> pathlib.Path:
    """Returns $XDG_CACHE_HOME/ifanp_jax, or ~/.cache/ifanp_jax where the variable is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "ifanp_jax"


def fingerprint(root: str | pathlib.Path, names: collections.abc.Iterable[str]) -> str:
    """Identifies the state of some files by name, size and modification time.

    Args:
      root: folder of the files.
      names: paths relative to it; absolute ones are taken as they are.

    Returns:
      64 hexadecimal digits.
    """
    entries = []
    for name in names:
        try:
            stat = (pathlib.Path(root) / name).stat()
            entries.append([str(name), stat.st_size, stat.st_mtime_ns])
        except OSError:  # a broken link, which reading then names
            entries.append([str(name), None, None])
    return _digest(entries)


def cached(
    label: str, key: dict, source_fingerprint: str, build: Build, *, cache_dir: str = ""
) -> tuple[Arrays, tuple[str, ...]]:
    """Loads what an earlier run built, or builds and keeps it.

    Args:
      label: start of the file name, for people who look into the folder.
      key: source and recipe, JSON-compatible; another key is another file.
      source_fingerprint: state of the source; a file with another one is stale and replaced.
      build: returns uint8 (N, H, W, C) arrays by name, and the names of skipped files with reasons.
      cache_dir: folder, created with mode 0700; "" = `default_dir()`.

    Returns:
      What `build` returns.
    """
    directory = pathlib.Path(cache_dir).expanduser() if cache_dir else default_dir()
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", label).strip("._")[:60] or "images"
    path = directory / f"{stem}-{_digest(key)[:32]}.npz"
    if path.is_file():
        try:
            return _load(path, source_fingerprint)
        except Exception as error:  # a damaged file makes zipfile, json and numpy raise nearly anything
            logger.info("Cached images %s are not used (%s); they are built again.", path, first_line(error))
    arrays, skipped = build()
    try:
        _save(path, arrays, skipped, source_fingerprint)
    except OSError as error:
        logger.warning("Decoded images cannot be cached under %s: %s.", directory, error)
    return arrays, skipped


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _load(path: pathlib.Path, source_fingerprint: str) -> tuple[Arrays, tuple[str, ...]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        record = json.loads(archive[_RECORD].tobytes())
        if record["format"] != _FORMAT:
            raise ValueError("another version of the program wrote them")
        if record["fingerprint"] != source_fingerprint:
            raise ValueError("the source has changed since")
        arrays = {name: archive[name] for name in record["shapes"]}  # reading to the end checks the CRC
    for name, shape in record["shapes"].items():
        if arrays[name].dtype != np.uint8 or list(arrays[name].shape) != shape:
            raise ValueError(f"{name} is not as recorded")
    return arrays, tuple(record["skipped"])


def _save(path: pathlib.Path, arrays: Arrays, skipped: tuple[str, ...], source_fingerprint: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    record = {
        "format": _FORMAT,
        "fingerprint": source_fingerprint,
        "shapes": {name: list(array.shape) for name, array in arrays.items()},
        "skipped": list(skipped),
    }
    encoded = np.frombuffer(json.dumps(record).encode(), np.uint8)
    for left in path.parent.glob(".writing-*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            left.unlink(missing_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".writing-", suffix=".npz", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **{_RECORD: encoded}, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
