"""How much memory there is."""

import os
import pathlib

CGROUP_LIMIT = pathlib.Path("/sys/fs/cgroup/memory.max")  # of a container, in bytes or "max"
DEFAULT_BYTES = 2**33  # where the system does not tell


def machine_bytes() -> int:
    """Memory of the machine, or of its container, in bytes."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        limits = [DEFAULT_BYTES]
    if CGROUP_LIMIT.is_file() and (text := CGROUP_LIMIT.read_text().strip()).isdigit():
        limits.append(int(text))
    return min(limits)
