"""`kit verify --security`: measure what hostile submissions achieve. They must gain, leak and disturb nothing."""

import json
import multiprocessing
import os
import platform
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from unittest import mock

from autograder.errors import KitError
from autograder.isolation import LEVELS, choose_level
from tools.canary import ENVIRONMENT
from tools.hostile import Fixture, load_fixtures
from tools.hostile_grading import Pair, grade_pair
from tools.readme_section import write_section


def run(args) -> int:
    """Grade, print a line for each submission and the figures; 1 when a requirement is not met.

    Args:
        args: of `kit verify`.
    """
    from rich.console import Console

    if args.readme and args.only:
        raise KitError("--readme publishes the figures of a full run: leave --only out")
    if args.json and not args.json.parent.is_dir():
        raise KitError(f"{args.json}: the folder {args.json.parent} does not exist")
    level, _ = choose_level(args.isolation)
    fixtures = stopped_at(level)
    if args.only:
        fixtures = [fixture for fixture in load_fixtures() if args.only in fixture.name]
    if not fixtures:
        raise KitError(f"no hostile submission has {args.only!r} in its name")
    console = Console(highlight=False, soft_wrap=True)
    pairs = verify(fixtures, level, args.jobs, lambda pair: _print_pair(pair, console))
    counts = {"isolation": level, **figures(pairs)}
    console.print("\n" + "   ".join(f"{name} {value}" for name, value in counts.items()))
    if args.json:
        args.json.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    if args.readme:
        write_section("kit verify --security --readme", section(counts, fixtures))
    return 0 if counts["passed"] else 1


def stopped_at(level: str) -> list[Fixture]:
    """Return the fixtures that a level should stop."""
    return [fixture for fixture in load_fixtures() if LEVELS.index(level) <= LEVELS.index(fixture.level)]


def verify(
    fixtures: list[Fixture], level: str, jobs: int = 2, on_pair: Callable[[Pair], None] = lambda pair: None
) -> list[Pair]:
    """Grade hostile submissions and their twins.

    Args:
        fixtures: to grade.
        level: of isolation, one that can be had here.
        jobs: processes that grade at the same time.
        on_pair: called with each pair as it ends, in the order of the fixtures.
    """
    pairs = []
    with (
        _secret_environment(),
        ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        for pair in pool.map(grade_pair, fixtures, [level] * len(fixtures)):
            pairs.append(pair)
            on_pair(pair)
    return pairs


@contextmanager
def _secret_environment() -> Iterator[None]:
    """Give the processes that grade a secret from their start on: what is set later, /proc does not show."""
    with mock.patch.dict(os.environ, {ENVIRONMENT: f"secret-{secrets.token_hex(8)}"}):
        yield


def figures(pairs: list[Pair]) -> dict:
    """Count hostile submissions, what they gained and leaked, and honest twins with full marks.

    Returns:
        hostile_total, hostile_points (gained above what the honest part deserves), hostile_leaks (secrets seen in
        results, reports and logs), hostile_problems (an honest part that lost points, a trace on the machine, a reason
        that is not named), disturbed (twins, graded right after, that were not as they should be), twins_total,
        twins_full, and whether all requirements are met.
    """
    counts = {
        "hostile_total": len(pairs),
        "hostile_points": sum(pair.hostile.gained for pair in pairs),
        "hostile_leaks": sum(len(pair.hostile.leaks) for pair in pairs),
        "hostile_problems": sum(len(pair.hostile.problems) + bool(pair.hostile.lost) for pair in pairs),
        "disturbed": sum(not pair.twin.is_clean for pair in pairs),
        "twins_total": len(pairs),
        "twins_full": sum(not pair.twin.lost for pair in pairs),
    }
    clean = all(pair.hostile.is_clean and pair.twin.is_clean for pair in pairs)
    return {**counts, "passed": bool(pairs) and clean}


def section(counts: dict, fixtures: list[Fixture]) -> list[str]:
    """Return the figures as the section of the README."""
    import torch

    lines = [
        f"Measured at level `{counts['isolation']}` on {platform.system()} with torch {torch.__version__}.",
        "",
        f"- hostile submissions {counts['hostile_total']}: {counts['hostile_points']} points gained, "
        f"{counts['hostile_leaks']} secrets leaked, {counts['hostile_problems']} other problems",
        f"- honest twins, each graded right after its hostile sibling {counts['twins_total']}: "
        f"{counts['twins_full']} with full marks, {counts['disturbed']} disturbed",
        "",
        "| threat | what the submission does | stopped from level |",
        "|---:|---|---|",
    ]
    return lines + [f"| {one.row} | {one.title} | `{one.level}` |" for one in fixtures]


def _print_pair(pair: Pair, console) -> None:
    from rich.markup import escape

    for kind, one in (("hostile", pair.hostile), ("twin", pair.twin)):
        faults = [f"gained {one.gained}"] * bool(one.gained) + [f"lost {one.lost}"] * bool(one.lost)
        faults += [f"({reason})" for reason in one.lost_because]
        faults += [f"leaked {leak}" for leak in one.leaks] + one.problems
        color, verdict = ("green", "ok") if one.is_clean else ("red", "; ".join(faults))
        console.print(f"{pair.name:34} {kind:8} [{color}]{escape(verdict[:500])}[/]")
