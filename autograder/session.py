"""A submission as graded tests see it: `submission.run(case)` gives what it returns, or raises what went wrong."""

import hashlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from autograder.compare import Mismatch
from autograder.reasons import reason, verified_place
from autograder.sandbox import Limits, Outcome, Worker
from autograder.tasks import FILES, Task, TaskTable
from autograder.worker.fakes import FAKES

MAX_ANSWERED = 2  # parts of a training that are not the submission's own, see `GradedSubmission`


class ProbeFailed(Mismatch):
    """The submission gave no answer: an exception, a limit, a crash."""

    def __init__(self, outcome: Outcome, folder: Path):
        self.outcome = outcome
        place = verified_place(outcome.where, folder)
        place = f" ({place})" if place else ""
        problem, detail = reason(outcome)
        super().__init__(problem if detail else problem + place, detail and detail + place)
        self.problem = problem + place


class OutOfTime(Mismatch):
    """The time for the whole submission is over."""


class NotYet(Mismatch):
    """The task trains parts that are not implemented yet."""


@dataclass
class GradedSubmission:
    """One submission, while one task is graded.

    Attributes:
        folder: where its files lie.
        worker: runs the probes.
        table: of tasks.
        task: that is graded now.
        upstream: answers calls of other tasks' functions; None on a student's machine, where the student's own are
            used.
        lost: {id: whether it is not implemented} of the tasks that this one builds on and that have lost points.
        outcomes: of the probes that have run; tests of several parts share them.
        deadline: on the monotonic clock, when no more is graded; None for no such time.
    """

    folder: Path
    worker: Worker
    table: TaskTable
    task: Task
    upstream: object = None
    lost: dict[str, bool] = field(default_factory=dict)
    outcomes: dict = field(default_factory=dict)
    deadline: float | None = None

    def run(self, case):
        """Run a case's probe on the submission, once for all tests that ask.

        Args:
            case: probe and inputs.

        Returns:
            What the probe returned: plain values and tensors.

        Raises:
            ProbeFailed: there was no answer.
        """
        key = (self.task.id, id(case))
        if key not in self.outcomes:
            # The case is kept beside its outcome, so that no other case gets its id.
            self.outcomes[key] = (case, self.outcome(case))
        return self.value_of(self.outcomes[key][1])

    def value_of(self, outcome: Outcome):
        """Return what a probe returned; `ProbeFailed` when it gave no answer."""
        if outcome.status != "ok":
            raise ProbeFailed(outcome, self.folder)
        return outcome.value

    def outcome(self, case, seconds: float | None = None) -> Outcome:
        """Run a case's probe and return its outcome, whatever it is.

        Args:
            case: probe and inputs.
            seconds: wall clock; by default the task's.

        Raises:
            OutOfTime: the deadline has passed, or did while the probe ran.
            Mismatch: the task trains what other tasks have built, and too much of that is missing.
        """
        trains = not self.task.symbols
        symbols = self._symbols_charged_elsewhere() if trains else self.table.symbols_outside(self.task)
        if self.upstream is None:
            symbols = tuple(symbol for symbol in symbols if symbol in FAKES)  # nobody here knows the functions' answers
        files = FILES if trains else (self.task.file,)
        request = {
            "folder": str(self.folder),
            "modules": [name.removesuffix(".py") for name in files],
            "replaced": [*symbols],
            "forbidden": list(self.task.forbidden),
            "probe": case.probe,
            "inputs": case.inputs,
        }
        left, seconds = self.seconds_left(), seconds or self.task.seconds
        limits = Limits(seconds=min(left, seconds), memory_gib=self.table.memory_gib, spare_seconds=left - seconds)
        outcome = self.worker.run(request, limits, self.upstream and self.upstream(symbols, trains))
        if outcome.status == "timeout" and left < seconds:
            raise OutOfTime("stopped: time is over")
        return outcome

    def seconds_left(self) -> float:
        """Return the seconds until the deadline; `OutOfTime` when it has passed."""
        left = math.inf if self.deadline is None else self.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime("not run: time is over")
        return left

    def _symbols_charged_elsewhere(self) -> tuple[str, ...]:
        """Symbols of needed tasks that have lost their points already, and of given ones: the reference answers them.

        A mistake is charged once. But there must be something of the submission's own left to train.
        """
        unfinished = [task_id for task_id, not_implemented in self.lost.items() if not_implemented]
        if unfinished:
            raise NotYet(f"not implemented yet: it trains what {', '.join(unfinished)} ask for")
        if len(self.lost) > MAX_ANSWERED:
            raise Mismatch(
                f"too many of the parts that are trained here lost points: {', '.join(self.lost)}; at most "
                f"{MAX_ANSWERED} of them are answered by the reference"
            )
        needed = [self.table[task_id] for task_id in self.task.needs]
        return tuple(symbol for task in needed if task.given or task.id in self.lost for symbol in task.symbols)


def submission_seed(folder: Path) -> int:
    """Return the seed of a submission's hidden inputs: a hash of its files, so that a regrade gives the same.

    All of its files: what another try changes, in whatever file, brings other inputs, so that the little that is told
    of hidden tests cannot be put together from many tries.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return int.from_bytes(digest.digest()[:6], "big")
