"""Grades a hostile submission and its honest twin, and looks for everything that must not be."""

import contextlib
import html
import io
import json
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from autograder.tasks import TaskTable, load_tasks
from tools.hostile import Fixture, Marks, build


@dataclass
class Run:
    """What came of one submission.

    Attributes:
        gained: points above what its honest part deserves.
        lost: points below that, and what the results say about them.
        leaks: secrets that appeared in results, reports or messages.
        problems: everything else that must not be: a task missing from the results, a trace on the machine.
    """

    gained: int = 0
    lost: int = 0
    lost_because: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is to be said about it."""
        return not (self.gained or self.lost or self.leaks or self.problems)


@dataclass
class Pair:
    """A hostile submission and, right after it on the same worker, its honest twin."""

    name: str
    title: str
    hostile: Run
    twin: Run


def grade_pair(fixture: Fixture, isolation: str) -> Pair:
    """Grade a hostile submission, then its twin, at one level."""
    from tools.canary import WatchedWorker

    with WatchedWorker(isolation) as worker, tempfile.TemporaryDirectory(prefix="kit-hostile-") as place:
        runs = [_grade_one(fixture, kind, worker, Path(place) / kind) for kind in ("hostile", "twin")]
    return Pair(fixture.name, fixture.title, *runs)


def _grade_one(fixture: Fixture, kind: str, worker, folder: Path) -> Run:
    import torch

    from autograder.grade import grade
    from autograder.grader_process import steady
    from tools.canary import listening, watching

    torch.set_num_threads(1)
    table, marks, run = _table_for(fixture, kind), Marks.fresh(), Run()
    with watching(worker) as canary, listening(marks) if fixture.listens else contextlib.nullcontext([]) as came:
        build(fixture, kind, folder, marks)
        results = steady(grade(folder, table, set(fixture.grades), worker=worker))  # as a class's are written
        shown = _everything_shown(results)
        if fixture.weights and kind == "hostile":
            _check_weights(worker, folder, fixture.weights, run)
    code = "\n".join(path.read_text(errors="replace") for path in folder.glob("*.py"))
    run.leaks = canary.found_in("\n".join(shown), code) + canary.found_in(html.unescape(shown[1]), code) + came
    # What it prints goes nowhere, so it may print its inputs; but a line of the solutions must not be within its reach.
    run.leaks += [leak for leak in canary.found_in("\n".join(worker.printed), code) if leak.startswith("solution")]
    _check_points(fixture, kind, table, results, run)
    if kind == "hostile":
        _check_words(fixture, results, run)
    elif fixture.notes and results["notes"]:
        run.problems.append(f"a note about nothing: {results['notes']}")
    _check_machine(marks, run)
    _, page, terminal = shown
    if any("\x1b" in text for text in shown) or "<script" in page or "\u202e" in terminal:
        run.problems.append("a control character or an HTML tag was shown as it is")
    return run


def _table_for(fixture: Fixture, kind: str) -> TaskTable:
    """Return the kit's table, with the fixture's limit of time on what the hostile submission does not solve.

    The rest keeps the kit's own limits, so that a busy machine takes no points from what is honest.
    """
    table = load_tasks()
    short = {*fixture.removes, *fixture.deserves} if kind == "hostile" else ()
    tasks = (replace(task, seconds=fixture.seconds) if task.id in short else task for task in table.tasks)
    return replace(table, tasks=tuple(tasks), memory_gib=fixture.memory_gib)


def _everything_shown(results: dict) -> tuple[str, str, str]:
    """Return all that a person gets to see: results file, page, terminal."""
    from rich.console import Console

    from autograder.report import print_results, results_page

    terminal = io.StringIO()
    print_results(results, Console(file=terminal, width=4000, highlight=False))
    return json.dumps(results, ensure_ascii=False), results_page(results, "a submission"), terminal.getvalue()


def _check_points(fixture: Fixture, kind: str, table: TaskTable, results: dict, run: Run) -> None:
    points = {row["id"]: row["points"] for row in results["tasks"]}
    missing = set(fixture.grades) - set(points)
    if missing:
        run.problems.append(f"not in the results: {', '.join(sorted(missing))}")
    for task in fixture.grades:
        deserved = table[task].points
        if kind == "hostile":
            deserved = fixture.deserves.get(task, 0 if task in fixture.removes else deserved)
        run.gained += max(0, points.get(task, 0) - deserved)
        if points.get(task, 0) < deserved:
            run.lost += deserved - points.get(task, 0)
            reasons = {part["message"] for row in results["tasks"] if row["id"] == task for part in row["parts"]}
            run.lost_because.append(f"{task}: {'; '.join(sorted(filter(None, reasons)))[:500]}")


def _check_words(fixture: Fixture, results: dict, run: Run) -> None:
    reasons = {row["id"]: " ".join(part["message"] for part in row["parts"]) for row in results["tasks"]}
    for task, text in fixture.says.items():
        if text not in reasons[task]:
            run.problems.append(f"task {task} does not say {text!r}: {reasons[task][:200]}")
    if not any(fixture.notes in note for note in ["", *results["notes"]]):
        run.problems.append(f"no note says {fixture.notes!r}: {results['notes']}")
    if fixture.flags and not any(fixture.flags in flag for flag in results["flags"]):
        run.problems.append(f"no flag says {fixture.flags!r}")


def _check_weights(worker, folder: Path, kinds: tuple[str, ...], run: Run) -> None:
    """Require that every kind of file is refused, not the one alone that has the right name."""
    request = {"folder": str(folder), "modules": [], "replaced": [], "forbidden": [], "probe": "weights"}
    for kind in kinds:
        outcome = worker.run({**request, "inputs": {"name": f"{kind}.pt"}})
        if outcome.status != "error" or not outcome.message.startswith(f"{kind}.pt "):
            run.problems.append(f"weights of kind {kind}: {outcome.status} {outcome.message}")


def _check_machine(marks: Marks, run: Run) -> None:
    if marks.remove_trace():
        run.problems.append("left a trace on the machine")
    for process in psutil.process_iter(["cmdline"]):
        if marks.survivor in " ".join(process.info["cmdline"] or ()):
            run.problems.append("left a process behind")
            with contextlib.suppress(psutil.Error):
                process.kill()
