"""Keeps memory that tensors have freed, so that the next step does not have to ask the system for it again.

The C library returns a large block to the system as soon as it is freed. Each step of a training on the CPU then gets
its activations page by page from the kernel, which clears every page: up to a third of the step.
"""

import contextlib
import ctypes
import sys
from collections.abc import Iterator

# Parameters of glibc's mallopt(3), with what they are to be and what they are by default.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_KEEP = ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_MAX, 0), (_ARENA_MAX, 1))
_DEFAULT = ((_TRIM_THRESHOLD, 128 * 1024), (_MMAP_MAX, 65536), (_ARENA_MAX, 0))


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let freed memory stay with this process inside the context; at its end all of it goes back to the system.

    It holds for threads that are started inside. Where the C library is not glibc (macOS, Windows), nothing happens.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "malloc_trim"):
        yield
        return
    _set(library, _KEEP)
    try:
        yield
    finally:
        _set(library, _DEFAULT)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, values: tuple[tuple[int, int], ...]) -> None:
    for parameter, value in values:
        library.mallopt(parameter, value)
