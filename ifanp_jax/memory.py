"""How much memory there is, and how much a process took."""

import os
import pathlib
import resource

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


def process_peak_bytes(*, process: int | None = None) -> int:
    """Most memory that a process held so far, in bytes.

    Args:
      process: its number; None = this one. Others are read on Linux alone.
    """
    status = pathlib.Path(f"/proc/{process or 'self'}/status")
    if process is None and not status.is_file():
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux getrusage would also count what the parent held when it started the process.
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return 1024 * int(fields["VmHWM"].split()[0])
