"""The free memory of this machine, or of the container that limits this process."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes() -> int:
    """Returns the bytes of memory that this process may still take without swapping."""
    free = psutil.virtual_memory().available
    limit, used = (_read(_CGROUP / f"memory.{name}") for name in ("max", "current"))
    if limit is None or used is None:
        return free
    return max(0, min(free, limit - used))


def _read(path: Path) -> int | None:
    """Reads a number of the Linux control group; None if there is no limit or no such group."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
