"""`kit verify`: measure the grader. Each mutant must lose points in its own task alone, each honest variant none."""

import concurrent.futures
import json
import multiprocessing
import os
from pathlib import Path

from autograder.errors import KitError
from autograder.isolation import LEVELS
from autograder.oracle import SOLUTIONS
from autograder.oracle.patches import solution_texts
from autograder.tasks import FILES
from tools.grading_pool import Graded, grade_in_pool, start_worker
from tools.specimens import Specimen, read_mutants, read_variants
from tools.verify_report import print_report, summary, write_readme

TRAINING = "3.2"
# Of the mutants of a task whose part the reference answers in the training, all train alike: some are enough.
_TRAINED_MUTANTS = 2
# CI: every so many of the mutants and variants, beginning with the first of each task.
_QUICK_MUTANTS, _QUICK_VARIANTS = 10, 8


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="a fixed sample, without training")
    parser.add_argument("--only", metavar="TEXT", help="mutants, variants, hostile submissions with this in their name")
    parser.add_argument("--own", action="store_true", help="grade each mutant in its own task only")
    parser.add_argument(
        "--train",
        choices=("none", "some", "all"),
        help=f"specimens that task {TRAINING} is run for (some; --quick: none)",
    )
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="gradings at a time")
    parser.add_argument(
        "--also", type=Path, metavar="FILE", help="figures of another run, for the spread of tolerances"
    )
    parser.add_argument("--readme", action="store_true", help="write the figures into autograder/README.md")
    parser.add_argument("--repeat", type=int, metavar="N", help="instead, grade some submissions N times and compare")
    parser.add_argument("--security", action="store_true", help="run hostile submissions and their twins instead")
    parser.add_argument("--isolation", choices=LEVELS, help="--security: level that has to be had (the best there is)")


def run(args) -> int:
    """Grade every specimen, print the matrix and the totals; 1 when a requirement is not met."""
    if args.security:
        from tools import verify_security

        return verify_security.run(args)
    if args.readme and (args.quick or args.only or args.own):
        raise KitError("--readme publishes the figures of a full run: leave --quick, --only and --own out")
    if args.repeat is not None and args.repeat < 2:
        raise KitError("--repeat compares gradings: it needs at least 2")
    if args.json and not args.json.parent.is_dir():
        raise KitError(f"{args.json}: the folder {args.json.parent} does not exist")
    if args.repeat is not None:
        from tools import verify_repeat

        return verify_repeat.run(args)
    elsewhere = _read_figures(args.also)
    specimens = choose(read_mutants(), read_variants(), args.quick, args.only)
    requests = [(one, {one.task} if args.own and one.task else _function_tasks(one)) for one in specimens]
    training = args.train or ("none" if args.quick or args.own else "some")
    graded = grade_all(with_training(requests, training), args.jobs)
    figures = summary(graded, elsewhere)
    print_report(graded, figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if args.readme:
        write_readme(figures)
    return 0 if figures["passed"] else 1


def choose(mutants: list[Specimen], variants: list[Specimen], quick: bool, only: str | None) -> list[Specimen]:
    """Return the specimens to grade: all, those whose name holds `only`, or CI's fixed sample."""
    if quick:
        by_task: dict[str, list[Specimen]] = {}
        for mutant in mutants:
            by_task.setdefault(mutant.task, []).append(mutant)
        mutants = [mutant for group in by_task.values() for mutant in group[::_QUICK_MUTANTS]]
        variants = variants[::_QUICK_VARIANTS]
    chosen = [specimen for specimen in (*variants, *mutants) if not only or only in specimen.name]
    if not chosen:
        raise KitError(f"no mutant or variant has {only!r} in its name")
    return chosen


def _function_tasks(specimen: Specimen) -> set[str]:
    """All tasks but the one that trains, and but those that a mutant cannot reach.

    While a task of common.py is graded no other file is read: a mutant that leaves it as it is changes nothing there.
    """
    common = FILES[0]
    unchanged = specimen.task is not None and specimen.files[common] == solution_texts(SOLUTIONS)[common]
    return {task.id for task in specimen.table.graded if task.symbols and not (unchanged and task.file == common)}


def with_training(requests: list[tuple[Specimen, set[str]]], training: str) -> list[tuple[Specimen, set[str]]]:
    """Add the task that trains to the tasks of the specimens for which it can matter.

    Args:
        requests: (specimen, tasks) pairs.
        training: "none", "all", or "some": every variant, and the first mutants of each task that the training needs.
    """
    trained: dict[str, int] = {}
    result = []
    for specimen, tasks in requests:
        trains = training != "none"
        if training == "some" and specimen.task is not None:
            trained[specimen.task] = trained.get(specimen.task, 0) + 1
            trains = trained[specimen.task] <= _TRAINED_MUTANTS and specimen.task in specimen.table[TRAINING].needs
        result.append((specimen, tasks | {TRAINING} if trains else tasks))
    return result


def grade_all(requests: list[tuple[Specimen, set[str]]], jobs: int) -> list[Graded]:
    """Grade specimens, each in some tasks, in a few processes with a worker each."""
    from rich.progress import track

    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=start_worker) as pool:
        futures = [pool.submit(grade_in_pool, *request) for request in requests]
        for future in track(concurrent.futures.as_completed(futures), "grading", total=len(futures)):
            if future.exception() is not None:
                pool.shutdown(cancel_futures=True)
                raise future.exception()
        return [future.result() for future in futures]


def _read_figures(path: Path | None) -> dict:
    if path is None:
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: not the figures of `kit verify --json` ({error})") from None
