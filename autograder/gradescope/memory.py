"""How much memory a probe may have in a container, where the kernel kills whoever is largest, the grader too."""

from pathlib import Path

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # cgroups 2 and 1
_GROWTH = 96 << 20  # of the grader while it grades, and the process that watches it
LEAST = 192 << 20  # the reference's training needs 150 MiB


def container_memory(places: tuple[Path, ...] = _LIMITS) -> int | None:
    """Return the container's memory in bytes; None where there is no limit."""
    for path in places:
        try:
            return int(path.read_text())
        except (OSError, ValueError):  # not of this kernel, or "max"
            continue
    return None


def memory_for_probe(container: int, grader: int) -> int:
    """Return the bytes that one probe may have.

    Args:
        container: bytes of the container.
        grader: bytes that the grader has to itself once its libraries are loaded; a worker has loaded the same.
    """
    return max(LEAST, container - 2 * grader - _GROWTH)


def own_memory() -> int:
    """Return the bytes that this process has to itself; shared libraries can be read again, they do not count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
