"""Grades submissions in grader processes. `grade_job` is a plain function, so any kind of executor can run it.

It hands its job to a grader process and waits. Whatever becomes of that process, this one goes on.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from autograder.errors import KitError
from autograder.held_out import HeldOut
from autograder.tasks import ROOT

MAX_MEMORY = 900 << 20  # a grader that holds more is replaced before the next submission
PATIENCE = 3600.0  # seconds, far more than the limits of one submission allow: only a grader that hangs takes so long


@dataclass(frozen=True)
class Job:
    """What a grader is asked for.

    Attributes:
        paths: of the submission, absolute; every machine that grades sees them under the same name.
        tasks: ids to grade; None for all.
        public_only: leave out hidden tests.
        isolation: level to insist on; None for the best that can be had.
        held_out: images to measure trained detectors on; None for none.
    """

    paths: tuple[str, ...]
    tasks: tuple[str, ...] | None = None
    public_only: bool = False
    isolation: str | None = None
    held_out: HeldOut | None = None


class GraderDied(Exception):
    """The grader ended, or hung, while it graded a submission; the submission may have done that, or the machine."""


class Grader:
    """A grader process, started when it is needed and again when it has ended. It serves one submission at a time."""

    def __init__(self):
        self._process: subprocess.Popen | None = None
        self._home = ""
        self._closed = False

    def grade(self, job: Job, patience: float = PATIENCE) -> dict:
        """Grade one submission; see `grade_job`."""
        process, line, hung = self._started(), b"", False
        with contextlib.suppress(OSError):  # it died before it read the job
            process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], patience)
            line = process.stdout.readline() if ready else b""
            hung = not ready
        if not line.endswith(b"\n"):
            reason = f"no answer in {patience:g} s" if hung else "the grader ended"
            raise GraderDied(f"{reason}: {self.stop()}")
        answer = json.loads(line)
        if answer.get("memory", 0) > MAX_MEMORY or self._closed:
            self.stop()
        if "error" in answer:
            raise KitError(answer["error"])
        return answer["results"]

    def interrupt(self) -> None:
        """End the process for good while another thread waits for its answer; that thread gets a `GraderDied`."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def _started(self) -> subprocess.Popen:
        if self._process is None:
            self._home = tempfile.mkdtemp(prefix="kit-grader-")
            os.chmod(self._home, 0o711)  # a worker that runs as another user passes through
            with open(f"{self._home}/stderr", "wb") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "autograder.grader_process", self._home],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    cwd=ROOT,
                    # One thread each: as many graders as cores, and the same sums in the same order everywhere.
                    env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                    start_new_session=True,  # Ctrl-C is for the parent, which then ends its graders
                )
        if self._closed:
            raise GraderDied(f"stopped: {self.stop()}")
        return self._process

    def stop(self) -> str:
        """End the process and remove what it left; returns its last words."""
        process, self._process = self._process, None
        if process is None:
            return ""
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):  # it may not have read everything
            process.stdin.close()
        try:
            lines = Path(self._home, "stderr").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        shutil.rmtree(self._home, ignore_errors=True)
        return lines[-1][:300] if lines else f"exit code {process.returncode}"


class GraderPool:
    """The grader processes of this process: as many as there are threads that grade at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._forget()

    def grade(self, job: Job) -> dict:
        """Grade one submission in a grader that is free, or in a new one."""
        with self._lock:
            if self._owner != os.getpid():
                self._forget()  # a fork: the graders belong to the parent
            grader = self._free.pop() if self._free else Grader()
            self._busy.add(grader)
        try:
            return grader.grade(job)
        finally:
            with self._lock:
                if grader in self._busy:
                    self._busy.remove(grader)
                    self._free.append(grader)

    def close(self) -> None:
        """End all graders, those at work too."""
        with self._lock:
            free, busy = self._free, self._busy
            self._forget()
        for grader in busy:
            grader.interrupt()
        for grader in free:
            grader.stop()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._free: list[Grader] = []
        self._busy: set[Grader] = set()


# An executor is given a function and not an object, so the graders that it finds again must be known to the module.
_POOL = GraderPool()


def grade_job(job: Job) -> dict:
    """Grade one submission in a grader process of this process.

    Returns:
        The results of `autograder.grade.grade`; of `refused_results` when the submission cannot be taken in.

    Raises:
        KitError: the kit or the call is at fault, not the submission.
        GraderDied: the grader ended or hung; the next call gets a new one.
    """
    return _POOL.grade(job)


def close_graders() -> None:
    """End the grader processes of this process; they would end with it anyway."""
    _POOL.close()
