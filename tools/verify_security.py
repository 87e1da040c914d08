"""`kit verify --security`: grade every hostile submission and its honest twin, and count what went wrong."""

import contextlib
import html
import io
import json
import multiprocessing
import os
import secrets
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import psutil

from autograder.errors import KitError
from autograder.isolation import LEVELS, choose_level
from autograder.tasks import TaskTable, load_tasks
from tools.canary import ENVIRONMENT
from tools.hostile import Fixture, Marks, build, load_fixtures


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
    from tools.canary import listening, watching

    torch.set_num_threads(1)
    table, marks, run = _table_for(fixture), Marks.fresh(), Run()
    with watching(worker) as canary, listening(marks) if fixture.listens else contextlib.nullcontext([]) as came:
        build(fixture, kind, folder, marks)
        results = grade(folder, table, set(fixture.grades), worker=worker)
        shown = _everything_shown(results)
        if fixture.weights:
            _check_weights(worker, folder, honest=kind == "twin", run=run)
    code = "\n".join(path.read_text(errors="replace") for path in folder.glob("*.py"))
    run.leaks = canary.found_in("\n".join(shown), code) + canary.found_in(html.unescape(shown[1]), code) + came
    # What it prints goes nowhere, so it may print its inputs; but a line of the solutions must not be within its reach.
    run.leaks += [leak for leak in canary.found_in("\n".join(worker.printed), code) if leak.startswith("solution")]
    _check_points(fixture, kind, table, results, run)
    if kind == "hostile":
        _check_words(fixture, results, run)
    _check_machine(marks, run)
    _, page, terminal = shown
    if any("\x1b" in text for text in shown) or "<script" in page or "\u202e" in terminal:
        run.problems.append("a control character or an HTML tag was shown as it is")
    return run


def _table_for(fixture: Fixture) -> TaskTable:
    table = load_tasks()
    tasks = tuple(replace(task, seconds=min(task.seconds, fixture.seconds)) for task in table.tasks)
    return replace(table, tasks=tasks, memory_gib=fixture.memory_gib)


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
    if fixture.flags and not any(fixture.flags in flag for flag in results["flags"]):
        run.problems.append(f"no flag says {fixture.flags!r}")


def _check_weights(worker, folder: Path, honest: bool, run: Run) -> None:
    request = {"folder": str(folder), "modules": [], "replaced": [], "forbidden": [], "probe": "weights", "inputs": {}}
    outcome = worker.run(request)
    if (outcome.status == "ok") != honest:
        run.problems.append(f"weights: {outcome.status} {outcome.message}")


def _check_machine(marks: Marks, run: Run) -> None:
    if marks.remove_trace():
        run.problems.append("left a trace on the machine")
    for process in psutil.process_iter(["cmdline"]):
        if marks.survivor in " ".join(process.info["cmdline"] or ()):
            run.problems.append("left a process behind")
            with contextlib.suppress(psutil.Error):
                process.kill()


def verify(isolation: str | None = None, jobs: int = 2, names: set[str] | None = None, on_pair=None) -> tuple:
    """Grade every fixture that a level should stop.

    Args:
        isolation: a level that has to be had; None for the strongest that can.
        jobs: processes that grade at the same time.
        names: of fixtures, also of such that the level does not stop; None for all that it should.
        on_pair: called with each `Pair` as it ends.

    Returns:
        The level, and the list of pairs in the order of the fixtures.

    Raises:
        KitError: the level cannot be had, or a name is not that of a fixture.
    """
    level, _ = choose_level(isolation)
    fixtures = load_fixtures()
    unknown = (names or set()) - {fixture.name for fixture in fixtures}
    if unknown:
        raise KitError(f"no fixture {', '.join(sorted(unknown))}")
    chosen = [
        fixture
        for fixture in fixtures
        if (fixture.name in names if names else LEVELS.index(level) <= LEVELS.index(fixture.level))
    ]
    pairs = []
    secret = {ENVIRONMENT: f"secret-{secrets.token_hex(8)}"}
    with (
        mock.patch.dict(os.environ, secret),
        ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        for pair in pool.map(grade_pair, chosen, [level] * len(chosen)):
            pairs.append(pair)
            if on_pair is not None:
                on_pair(pair)
    return level, pairs


def figures(pairs: list[Pair]) -> dict[str, int]:
    """Count hostile submissions, what they gained and what they leaked, and honest twins with full marks."""
    return {
        "hostile_total": len(pairs),
        "hostile_points": sum(pair.hostile.gained for pair in pairs),
        "hostile_leaks": sum(len(pair.hostile.leaks) for pair in pairs),
        "hostile_problems": sum(len(pair.hostile.problems) + bool(pair.hostile.lost) for pair in pairs),
        "disturbed": sum(not pair.twin.is_clean for pair in pairs),
        "twins_total": len(pairs),
        "twins_full": sum(pair.twin.is_clean for pair in pairs),
    }


def configure(parser) -> None:
    """Add the arguments of `kit verify --security`."""
    parser.add_argument("--isolation", choices=LEVELS, help="level that has to be had; by default the best there is")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at the same time")
    parser.add_argument("--fixture", action="append", metavar="NAME", help="this one only; may be given again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")


def run(args) -> int:
    """Grade, print a line for each pair and the figures; the exit code is 1 when anything went wrong.

    Args:
        args: with `json`; `isolation`, `jobs` and `fixture` are optional, as `configure` adds them.
    """
    from rich.console import Console
    from rich.markup import escape

    if args.json and not args.json.parent.is_dir():
        raise KitError(f"{args.json}: the folder {args.json.parent} does not exist")
    console = Console(highlight=False)

    def show(pair: Pair) -> None:
        for kind, one in (("hostile", pair.hostile), ("twin", pair.twin)):
            faults = [f"gained {one.gained}"] * bool(one.gained) + [f"lost {one.lost}"] * bool(one.lost)
            faults += [f"({reason})" for reason in one.lost_because]
            faults += [f"leaked {leak}" for leak in one.leaks] + one.problems
            color, verdict = ("green", "ok") if one.is_clean else ("red", "; ".join(faults))
            console.print(f"{pair.name:34} {kind:8} [{color}]{escape(verdict[:500])}[/]")

    names = set(getattr(args, "fixture", None) or ()) or None
    level, pairs = verify(getattr(args, "isolation", None), getattr(args, "jobs", None) or 2, names, show)
    counts = {"isolation": level, **figures(pairs)}
    console.print("\n" + "   ".join(f"{name} {value}" for name, value in counts.items()))
    if args.json:
        args.json.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    clean = all(one.is_clean for pair in pairs for one in (pair.hostile, pair.twin))
    return 0 if clean else 1
