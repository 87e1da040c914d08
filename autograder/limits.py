"""What a probe may use, and the watch over it from outside.

The kernel keeps the limits of single processes (`Limits.for_worker`); what a whole family of processes uses is counted
here, some times a second, for as long as a probe runs.
"""

import contextlib
import math
import os
import time
from dataclasses import dataclass, replace

import psutil

_TICK_SECONDS = 0.1
# Where nobody says what processes share: forked ones share the worker's own memory, so many of them unquestioned.
_SHARING = 4
_LAST_RESERVE = 256 << 20  # when the whole machine has no more than this left, the probes that run have to end
# A family with more threads than this gets no more of a busy processor than one with so many: each step of niceness is
# worth a quarter.
_FAIR_THREADS, _STEP, _NICEST = 4, 1.25, 19


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
        spare_seconds: wall clock beyond `seconds` in which it can run again, alone, should others have disturbed it.
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
    spare_seconds: float = math.inf

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
        self.begin()

    def begin(self) -> None:
        """Start to watch another probe."""
        self._began, self._out_of_memory, self._killed = time.monotonic(), False, _out_of_memory_kills()
        self._cpu: dict[tuple[int, float], float] = {}  # by process, also of those that have ended
        self._waited = 0.0
        self._nice = 0

    @property
    def cpu_seconds(self) -> float:
        """Computing of all processes of this probe, as far as a look some times a second sees it."""
        return sum(self._cpu.values())

    @property
    def was_disturbed(self) -> bool:
        """Whether the probe lacked what others had: memory, or a processor for longer than it computed itself."""
        if self._out_of_memory or _out_of_memory_kills() > self._killed:
            return True
        return self._waited > max(self.cpu_seconds, 0.25 * (time.monotonic() - self._began), 0.25)

    def check(self, limits: Limits) -> tuple[str, str] | None:
        """Return (status, message) of the limit that the processes of a probe have passed, or None."""
        processes = [process for process in self._family() if process.pid not in self._own]
        threads, memory = 0, 0
        for process in processes:
            try:
                with process.oneshot():
                    threads += process.num_threads()
                    memory += process.memory_info().rss
                    times = process.cpu_times()
                    self._cpu[process.pid, process.create_time()] = times.user + times.system
                    if process.ppid() in self._own:
                        self._waited = max(self._waited, _waited(process.pid))
            except psutil.Error:
                continue  # it has just ended
        self._share_fairly(processes, threads)
        if threads > limits.processes:
            return "processes", f"started more than {limits.processes} processes and threads"
        allowed = self._shared + limits.memory_gib * 2**30
        if memory > allowed and self._without_sharing(processes, memory) > allowed:
            return "memory", f"used more than {limits.memory_gib:g} GiB"
        if self.cpu_seconds > limits.cpu_seconds:
            return "timeout", f"stopped after {limits.cpu_seconds:g} s of computing"
        if self._memory_folders and (passed := self._kernel_memory(limits)):
            return "memory", passed
        if psutil.virtual_memory().available < _LAST_RESERVE:
            self._out_of_memory = True
            return "memory", "used up the memory of this machine"
        return None

    def _share_fairly(self, processes: list[psutil.Process], threads: int) -> None:
        """Lower the priority of a family of many threads; those that it starts later inherit it."""
        nice = min(_NICEST, int(math.log(max(threads, 1) / _FAIR_THREADS, _STEP)))
        if nice <= self._nice or not hasattr(os, "setpriority"):
            return
        self._nice = nice
        for process in processes:
            with contextlib.suppress(psutil.Error, OSError):
                for thread in process.threads():
                    os.setpriority(os.PRIO_PROCESS, thread.id, nice)

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


def _waited(pid: int) -> float:
    """Return the seconds that a process was ready to run and had no processor; 0 where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/schedstat") as figures:
            return int(figures.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _out_of_memory_kills() -> int:
    """Return how many processes of this machine the kernel has ended because there was no memory left."""
    try:
        with open("/proc/vmstat") as figures:
            return next((int(line.split()[1]) for line in figures if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
