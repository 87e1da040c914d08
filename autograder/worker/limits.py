"""The limits that a probe's process sets on itself before it loads a submission: the kernel keeps them from then on.

They are the inner ring. The wall clock, the memory and the number of processes are watched from outside as well.
"""

import contextlib
import resource
import signal

# What a submission may map beyond its private memory: libraries, thread stacks, arenas of the allocator.
_ADDRESS_SPACE_MARGIN = 2 << 30


class TooSlow(BaseException):
    """The time limit, raised where the submission is. Not an Exception, so that `except Exception` lets it pass."""


def apply_limits(limits: dict[str, int]) -> None:
    """Set resource limits.

    Args:
        limits: {"RLIMIT_CPU": seconds, ...}; RLIMIT_DATA and RLIMIT_AS count from what this process has already.
    """
    added = {"RLIMIT_DATA": _memory("VmData"), "RLIMIT_AS": _memory("VmSize") + _ADDRESS_SPACE_MARGIN}
    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is None or (name in added and not added[name]):
            continue  # not of this system
        value += added.get(name, 0)
        _, hard = resource.getrlimit(kind)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # At the soft limit of computing comes SIGXCPU, which names the reason; a second later SIGKILL, which cannot be
        # ignored.
        later = int(name == "RLIMIT_CPU" and allowed != hard)
        resource.setrlimit(kind, (allowed, allowed + later))


@contextlib.contextmanager
def time_limit(seconds: float):
    """Raise `TooSlow` in the main thread after some seconds, so that the report can name the line.

    A submission can take this alarm away, and a loop inside C never hears it: then the trusted side ends the process.
    """

    def ring(*_):
        raise TooSlow

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _memory(name: str) -> int:
    """Return one of the kernel's figures of this process in bytes, 0 where there is none."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
