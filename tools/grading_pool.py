"""Grades specimens for `kit verify`, in a process that keeps one worker for all of them."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from autograder.grade import grade
from autograder.oracle.patches import write_files
from autograder.sandbox import Worker
from tools.specimens import Specimen

_workers: list[Worker] = []  # of this process of the pool, started by `start_worker`


@dataclass(frozen=True)
class Comparison:
    """One comparison of one graded test: how near it came to its tolerance (1 is the limit)."""

    task: str
    test: str
    relative: float
    absolute: float
    why_not: str
    excess: float


@dataclass(frozen=True)
class Graded:
    """A specimen and what became of it.

    Attributes:
        points: {task: (points, the most there are)} of the graded tasks.
        lost: {"task/part": message} of the parts that lost their points.
        public: ids "task/part" of the parts that are public.
        comparisons: made while it was graded.
    """

    specimen: Specimen
    points: dict[str, tuple[int, int]]
    lost: dict[str, str]
    public: frozenset[str]
    comparisons: tuple[Comparison, ...]

    @property
    def killed(self) -> bool:
        """Whether its own task lost points."""
        points, most = self.points[self.specimen.task]
        return points < most

    @property
    def lost_elsewhere(self) -> list[str]:
        """Other tasks that lost points."""
        return [task for task, (points, most) in self.points.items() if points < most and task != self.specimen.task]

    @property
    def public_messages(self) -> list[str]:
        """What public tests of its own task said."""
        own = f"{self.specimen.task}/"
        return [text for part, text in self.lost.items() if part in self.public and part.startswith(own)]

    @property
    def diagnosed(self) -> bool:
        """Whether a public test gave the expected diagnosis."""
        return bool(self.specimen.hint) and any(self.specimen.hint in text for text in self.public_messages)


def start_worker() -> None:
    """Start this process's worker; the pool calls it once in each process."""
    import torch

    torch.set_num_threads(1)  # the processes of the pool share the cores
    _workers.append(Worker())


def grade_in_pool(specimen: Specimen, tasks: set[str]) -> Graded:
    """Grade one specimen with this process's worker."""
    return grade_specimen(specimen, tasks, _workers[0])


def grade_specimen(specimen: Specimen, tasks: set[str], worker: Worker) -> Graded:
    """Grade one specimen."""
    from autograder.compare import measured

    comparisons: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="kit-specimen-") as folder, measured() as margins:

        def collect(task_id, part_id, result):
            comparisons.extend(
                Comparison(task_id, result.name, limit.relative, limit.absolute, limit.why_not, margin.excess)
                for margin in margins
                for limit in (margin.tolerance,)
            )
            margins.clear()

        write_files(specimen.files, Path(folder))
        results = grade(Path(folder), specimen.table, tasks, worker=worker, on_result=collect)
    rows = {f"{task['id']}/{part['id']}": part for task in results["tasks"] for part in task["parts"]}
    return Graded(
        specimen=specimen,
        points={task["id"]: (task["points"], task["max_points"]) for task in results["tasks"]},
        lost={name: part["message"] for name, part in rows.items() if part["status"] != "passed"},
        public=frozenset(name for name, part in rows.items() if not part["hidden"]),
        comparisons=tuple(comparisons),
    )
