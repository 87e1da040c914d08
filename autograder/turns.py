"""Lets the probes of all graders on a machine run beside each other, and one alone that was kept from its share.

Locks on two files of the kit, which every grader can open and no submission at `bubblewrap` sees. A probe passes the
gate and enters the room. Whoever wants the room alone closes the gate first, so that nobody comes in front of him.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_GATE, _ROOM = (Path(__file__).with_name(name) for name in ("__init__.py", "turns.py"))
PATIENCE_SECONDS = 30  # at each of the two; a probe goes on without its turn then: no lock may stop a class
_LOOK_SECONDS = 0.02


@contextlib.contextmanager
def beside_others() -> Iterator[None]:
    """Run at the same time as others do, but not as one that has to be alone."""
    with _held(_GATE, alone=False):
        pass
    with _held(_ROOM, alone=False):
        yield


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Run when no other probe on this machine runs."""
    with _held(_GATE, alone=True), _held(_ROOM, alone=True):
        yield


@contextlib.contextmanager
def _held(path: Path, alone: bool) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOOK_SECONDS)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(descriptor)  # and the lock with it
