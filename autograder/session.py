"""A submission as graded tests see it: `submission.run(case)` gives what it returns, or raises what went wrong."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from autograder.compare import Mismatch
from autograder.reasons import reason, verified_place
from autograder.sandbox import Limits, Outcome, Worker
from autograder.tasks import FILES, Task, TaskTable
from autograder.worker.fakes import FAKES


class ProbeFailed(Mismatch):
    """The submission gave no answer: an exception, a limit, a crash."""

    def __init__(self, outcome: Outcome, folder: Path):
        self.outcome = outcome
        place = verified_place(outcome.where, folder)
        place = f" ({place})" if place else ""
        problem, detail = reason(outcome)
        super().__init__(problem if detail else problem + place, detail and detail + place)
        self.problem = problem + place


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
    """

    folder: Path
    worker: Worker
    table: TaskTable
    task: Task
    upstream: object = None

    def run(self, case, seconds: float | None = None):
        """Run a case's probe on the submission.

        Args:
            case: probe and inputs.
            seconds: wall clock; by default the task's.

        Returns:
            What the probe returned: plain values and tensors.

        Raises:
            ProbeFailed: there was no answer.
        """
        outcome = self.outcome(case, seconds)
        if outcome.status != "ok":
            raise ProbeFailed(outcome, self.folder)
        return outcome.value

    def outcome(self, case, seconds: float | None = None) -> Outcome:
        """Run a case's probe and return its outcome, whatever it is."""
        module = self.task.file.removesuffix(".py")
        symbols = self.table.symbols_outside(self.task)
        if self.upstream is None:
            symbols = tuple(symbol for symbol in symbols if symbol in FAKES)  # nobody here knows the functions' answers
        replaced = symbols if self.task.symbols else ()  # a task without functions of its own uses the submission's
        request = {
            "folder": str(self.folder),
            "modules": [module] if self.task.symbols else [name.removesuffix(".py") for name in FILES],
            "replaced": [*replaced],
            "forbidden": list(self.task.forbidden),
            "probe": case.probe,
            "inputs": case.inputs,
        }
        limits = Limits(seconds=seconds or self.task.seconds, memory_gib=self.table.memory_gib)
        return self.worker.run(request, limits, self.upstream and self.upstream(replaced))


def submission_seed(folder: Path) -> int:
    """Return the seed of a submission's hidden inputs: a hash of the two files, so that a regrade gives the same."""
    digest = hashlib.sha256()
    for name in FILES:
        path = folder / name
        digest.update(path.read_bytes() if path.is_file() else b"")
        digest.update(b"\0")
    return int.from_bytes(digest.digest()[:6], "big")
