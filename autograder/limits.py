"""What a probe may use, and the watch over it from outside.

The kernel keeps the limits of single processes (`Limits.for_worker`); what a whole family of processes uses is counted
here, some times a second, for as long as a probe runs.
"""

import contextlib
import os
from dataclasses import dataclass, replace

import psutil

_TICK_SECONDS = 0.1
# Where nobody says what processes share: forked ones share the worker's own memory, so many of them unquestioned.
_SHARING = 4
_LAST_RESERVE = 256 << 20  # when the whole machine has no more than this left, the probe that runs has to end


@dataclass(frozen=True)
class Limits:
    """What one probe may use.

    Attributes:
        seconds: wall clock.
        memory_gib: memory of all its processes, on top of what the worker had.
        processes: processes and threads at one time.
        output_bytes: of stdout and stderr together; the rest is drained and dropped.
        file_bytes: size of one file that it writes.
        open_files: descriptors of one process.
        sockets: of all processes, together with those that wait to be accepted; where the worker has its own network.
        files: in the folders in memory, where it has such.
        submission_seconds: wall clock of all probes of one submission; twice that of computing.
    """

    seconds: float = 20.0
    memory_gib: float = 4.0
    processes: int = 64
    output_bytes: int = 64 << 10
    file_bytes: int = 64 << 20
    open_files: int = 128
    sockets: int = 512
    files: int = 16384
    submission_seconds: float = 900.0

    @property
    def import_seconds(self) -> float:
        """Wall clock for each of the submission's files to be imported."""
        return 0.4 * self.seconds

    @property
    def cpu_seconds(self) -> float:
        """Computing of all processes together."""
        return 2 * self.seconds + 2

    @property
    def grace_seconds(self) -> float:
        """When the probe is ended from outside: a little later than it should end itself and name the line."""
        return self.seconds + min(1.0, 0.2 * self.seconds)

    def at_most(self, seconds: float) -> "Limits":
        """Return the same limits with less time."""
        return replace(self, seconds=min(self.seconds, seconds))

    def for_worker(self, count_processes: bool) -> dict:
        """Return what the zygote is told: the limits that the probe's process sets on itself, and its alarms.

        Args:
            count_processes: whether the kernel can count this worker's processes alone, not all of the user's.
        """
        memory = int(self.memory_gib * 2**30)
        limits = {
            "RLIMIT_CPU": int(self.cpu_seconds),
            "RLIMIT_DATA": memory,
            "RLIMIT_AS": memory,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_CORE": 0,
        }
        if count_processes:
            limits["RLIMIT_NPROC"] = self.processes
        return {"limits": limits, "seconds": self.seconds, "import_seconds": self.import_seconds}


class Watchdog:
    """Counts what the processes below one process use.

    Args:
        pid: of the worker; its descendants are counted as well.
        memory_folders: folders in memory, as the worker sees them, where it has a file system and a network of its own.
    """

    tick_seconds = _TICK_SECONDS

    def __init__(self, pid: int, memory_folders: tuple[str, ...] = ()):
        self._pid = pid
        own = self._family()
        self._zygote = own[-1].pid if own else pid  # each started the next
        self._memory_folders = memory_folders
        self._own = frozenset(process.pid for process in own)
        # What every fork of the zygote shares with it, and counts as its own.
        self._shared = max((_resident(process) for process in own), default=0)

    def check(self, limits: Limits) -> tuple[str, str] | None:
        """Return (status, message) of the limit that the processes of a probe have passed, or None."""
        processes = [process for process in self._family() if process.pid not in self._own]
        threads, memory, cpu = 0, 0, 0.0
        for process in processes:
            try:
                with process.oneshot():
                    threads += process.num_threads()
                    memory += process.memory_info().rss
                    times = process.cpu_times()
                    cpu += times.user + times.system
            except psutil.Error:
                continue  # it has just ended
        if threads > limits.processes:
            return "processes", f"started more than {limits.processes} processes and threads"
        allowed = self._shared + limits.memory_gib * 2**30
        if memory > allowed and self._without_sharing(processes, memory) > allowed:
            return "memory", f"used more than {limits.memory_gib:g} GiB"
        if cpu > limits.cpu_seconds:
            return "timeout", f"stopped after {limits.cpu_seconds:g} s of computing"
        if self._memory_folders and (passed := self._kernel_memory(limits)):
            return "memory", passed
        if psutil.virtual_memory().available < _LAST_RESERVE:
            return "memory", "used up the memory of this machine"
        return None

    def _kernel_memory(self, limits: Limits) -> str:
        """Say which of the things is passed that take memory of the kernel, which no process is charged for."""
        inside = f"/proc/{self._zygote}"
        with contextlib.suppress(OSError):
            with open(f"{inside}/net/unix", "rb") as sockets:
                if sum(1 for _ in sockets) - 1 > limits.sockets:  # under a heading
                    return f"used more than {limits.sockets} sockets"
            for folder in self._memory_folders:
                usage = os.statvfs(f"{inside}/root{folder}")
                if usage.f_files - usage.f_ffree > limits.files:
                    return f"made more than {limits.files} files"
        return ""

    def _without_sharing(self, processes: list[psutil.Process], resident: int) -> float:
        """Memory of some processes together, what several share counted once, as far as the kernel tells."""
        total = 0
        for process in processes:
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
            except (psutil.Error, AttributeError):
                return resident - self._shared * min(len(processes), _SHARING)
        return total

    def _family(self) -> list[psutil.Process]:
        try:
            worker = psutil.Process(self._pid)
            return [worker, *worker.children(recursive=True)]
        except psutil.Error:
            return []


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
