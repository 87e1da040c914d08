"""Figures of a class: how totals are distributed, how hard each task is, and what most often goes wrong."""

import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass

from autograder.desk.results import ClassResults

FEWEST = 5  # students, below which a correlation says nothing


@dataclass(frozen=True)
class TaskFigures:
    """How a class did on one task; the counts are numbers of students.

    Attributes:
        difficulty: mean share of the points, 0 to 1; item analysis calls this difficulty, though 1 is the easiest.
        discrimination: correlation of this task's points with the points of all other tasks; None where there are too
            few students or no spread. Near 0 or below, the task does not measure what the others measure.
    """

    id: str
    title: str
    max_points: float
    difficulty: float
    full: int
    partial: int
    nothing: int
    not_begun: int
    discrimination: float | None


@dataclass(frozen=True)
class Failure:
    """One way to fail.

    Attributes:
        message: as one of the students got it.
        tasks: ids of the tasks that it came up in.
        students: indices into `ClassResults.students`.
    """

    message: str
    tasks: tuple[str, ...]
    students: tuple[int, ...]


def taken_in(results: ClassResults) -> list[dict]:
    """Return the students whose submission could be graded at all; a broken archive says nothing about a task."""
    return [one for one in results.students if one["seed"] is not None]


def histogram(totals: list[float], max_total: float, bins: int = 10) -> list[dict]:
    """Count totals in equal ranges.

    Returns:
        One {"low", "high", "count"} for each range; the last one includes its upper end.
    """
    counts = Counter(min(int(total * bins / max_total), bins - 1) if max_total else 0 for total in totals)
    edges = [max_total * i / bins for i in range(bins + 1)]
    return [{"low": edges[i], "high": edges[i + 1], "count": counts[i]} for i in range(bins)]


def task_figures(results: ClassResults) -> list[TaskFigures]:
    """Return the figures of every task, in the order of the table."""
    students, figures = taken_in(results), []
    for index, task in enumerate(results.tasks):
        rows = [one["tasks"][index] for one in students]
        points, most = [row["points"] for row in rows], task["max_points"]
        rest = [one["total"] - row["points"] for one, row in zip(students, rows)]
        figures.append(
            TaskFigures(
                **task,
                difficulty=statistics.fmean(points) / most if points and most else 0.0,
                full=sum(got >= most for got in points),
                partial=sum(0 < got < most for got in points),
                nothing=sum(got <= 0 < most and row["status"] != "not implemented" for got, row in zip(points, rows)),
                not_begun=sum(row["status"] == "not implemented" for row in rows),
                discrimination=_correlation(points, rest),
            )
        )
    return figures


def _correlation(x: list[float], y: list[float]) -> float | None:
    if len(x) < FEWEST or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    return statistics.correlation(x, y)


def failures(results: ClassResults, most: int = 25) -> list[Failure]:
    """Return the commonest failure messages, the commonest first.

    Messages that differ only in numbers and in places in the source count as one; tasks not begun do not count.
    """
    wordings: dict[str, Counter] = defaultdict(Counter)
    tasks: dict[str, dict[str, None]] = defaultdict(dict)
    students: dict[str, dict[int, None]] = defaultdict(dict)
    for index, one in enumerate(results.students):
        for task in one["tasks"]:
            for part in task.get("parts", [task]):
                if part["status"] in ("passed", "not implemented", "not graded") or not part["message"].strip():
                    continue
                text = part["message"].strip().splitlines()[0]
                kind = re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?", "#", re.sub(r" ?\(?\w+\.py:\d+\)?", "", text))
                wordings[kind][text] += 1
                tasks[kind][task["id"]] = None
                students[kind][index] = None
    ranked = sorted(wordings, key=lambda kind: (-len(students[kind]), kind))[:most]
    return [
        Failure(min(wordings[kind], key=lambda text: (-wordings[kind][text], text)), tuple(sorted(tasks[kind])),
                tuple(students[kind]))
        for kind in ranked
    ]  # fmt: skip
