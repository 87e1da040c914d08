"""`kit grade-class`: grade every submission of a folder, write results as they come, go on where it was stopped."""

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from autograder.batch import Options, ResultStore, Tally, grade_class, write_whole
from autograder.errors import KitError
from autograder.grade import require_no_images
from autograder.graders import close_graders
from autograder.held_out import PICTURES, pictures_of
from autograder.identity import find_submissions
from autograder.isolation import LEVELS, choose_level
from autograder.summary import write_summary
from autograder.tasks import load_tasks
from tools.held_out import add_arguments, held_out_images

_JOB_BYTES = 2 << 30  # of a grader and its worker at their usual size


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument(
        "folder", type=Path, help="one folder or archive for each student; exports of Canvas, Moodle or Gradescope"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="submissions at a time; by default as many as fit")
    parser.add_argument("--resume", action="store_true", help="keep the results that are there and grade the rest")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the results; by default FOLDER-results")
    parser.add_argument("--isolation", choices=LEVELS, help="insist on this level; by default the best that can be had")
    parser.add_argument("--public-only", action="store_true", help="leave out hidden tests, as students see it")
    parser.add_argument("--task", action="append", metavar="ID", help="grade this task only; may be given again")
    add_arguments(parser)
    parser.add_argument("--dask", metavar="ADDRESS", help="send submissions to this Dask scheduler (extra `cluster`)")


def run(args) -> int:
    """Grade the class; 0 when every submission has a result, 1 when some have none, 130 after Ctrl-C."""
    from rich.console import Console

    if args.jobs is not None and args.jobs < 1:
        raise KitError(f"--jobs {args.jobs}: at least 1")
    table = load_tasks()
    table.require_graded(args.task or ())
    if not args.dask:  # a cluster's machines find out for themselves
        choose_level(args.isolation)
    folder = args.folder.resolve()
    out = args.out or Path(f"{folder.name}-results")
    held_out = held_out_images(args)
    if held_out is None and not args.public_only:
        require_no_images(table, args.task)
    found = find_submissions(folder, leave_out=out)
    options = Options(tuple(args.task) if args.task else None, args.public_only, args.isolation, held_out)
    store = ResultStore(out, table, options)
    console = Console(highlight=False)
    stopped = False
    with store.opened(args.resume), _executor(args) as (executor, in_flight, check), _progress(console) as on_change:
        tally = Tally(len(found.submissions))
        try:
            grade_class(found, store, options, executor, in_flight, tally, on_change, check=check)
        except KeyboardInterrupt:
            stopped = True
        summary = write_summary(found, store, tally, table)
        if held_out is not None:
            write_whole(out / PICTURES, json.dumps(pictures_of(held_out)) + "\n")
    if store.weaker:
        console.print(
            f"earlier results that do not count, of a weaker isolation than {args.isolation}: {len(store.weaker)}"
        )
    _print_summary(summary, tally, out, console)
    if stopped:
        console.print(f"stopped; go on with: kit grade-class {args.folder} --out {out} --resume", markup=False)
        return 130
    return 1 if tally.not_graded else 0


@contextlib.contextmanager
def _executor(args):
    """Yield an executor, the number of jobs to give it at a time, and what to call while none ends."""
    if args.dask:
        from tools.cluster import dask_executor

        with dask_executor(args.dask) as (executor, threads, check):
            yield executor, 2 * threads, check  # one at work and one on its way, for each thread
        return
    jobs = args.jobs or _jobs_that_fit()
    executor = ThreadPoolExecutor(jobs)
    try:
        yield executor, jobs, lambda: None
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        close_graders()  # nobody waits any more for those that are still at work


def _jobs_that_fit() -> int:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, psutil.virtual_memory().available // _JOB_BYTES))


@contextlib.contextmanager
def _progress(console):
    """Yield the function that shows the tally: a bar in a terminal, a line for each submission elsewhere."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[tally]}"), TimeRemainingColumn()]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None, tally="")

        def on_change(tally: Tally, submission, results):
            progress.update(
                bar, total=tally.expected, completed=tally.graded + len(tally.not_graded), tally=_tally_text(tally)
            )
            if submission is not None and (results is None or not console.is_terminal):
                what = (
                    tally.not_graded[submission.id] if results is None else f"{results['total']}/{results['max_total']}"
                )
                done = f"{tally.graded}/{tally.expected}"
                progress.console.print(f"{done} {escape(submission.id)}: {escape(what)}", soft_wrap=True)

        yield on_change


def _tally_text(tally: Tally) -> str:
    parts = [f"mean {tally.points / tally.graded:.1f}" if tally.graded else ""]
    parts.append(f"{tally.kept} from before" if tally.kept else "")
    parts.append(f"{tally.refused} refused" if tally.refused else "")
    parts.append(f"{len(tally.not_graded)} not graded" if tally.not_graded else "")
    return " · ".join(part for part in parts if part)


def _print_summary(summary: dict, tally: Tally, out: Path, console) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for title, justify in (("task", "left"), ("", "left"), ("mean", "right"), ("of", "right"), ("full marks", "right")):
        table.add_column(title, justify=justify)
    for row in summary["tasks"]:
        table.add_row(row["id"], escape(row["title"]), f"{row['mean']:g}", str(row["max_points"]), str(row["full"]))
    if summary["tasks"]:
        console.print(table)
    lines = [f"{one['id']}: {one['counts']} counts, {one['source']} is older" for one in summary["superseded"]]
    lines += [f"refused: {one['reason']}" for one in summary["refused"]]
    lines += [f"not graded: {one['id']}: {one['reason']}" for one in summary["not_graded"]]
    lines += summary["notes"]
    for line in lines:
        console.print(line, style="dim", markup=False, soft_wrap=True)
    for warning in summary["isolation_warnings"]:
        console.print(f"isolation: {warning}", style="yellow", markup=False, soft_wrap=True)
    levels = ", ".join(f"{name} ({count})" for name, count in summary["isolation"].items()) or "none"
    mean = "" if summary["mean"] is None else f"   mean {summary['mean']:g}/{summary['max_total']}"
    measured = [row["mAP"] for row in summary["results"] if row.get("mAP") is not None]
    if measured:
        mean_ap = f"mean {sum(measured) / len(measured):.1%}, best {max(measured):.1%}"
        console.print(f"\nmAP of {len(measured)} trained detectors: {mean_ap}", markup=False, soft_wrap=True)
    median = "" if summary["median"] is None else f"   median {summary['median']:g}"
    console.print(
        f"\n{summary['graded']} of {summary['submissions']} graded{mean}{median}   isolation: {levels}\n"
        f"results in {out}: summary.csv, summary.json, results/",
        markup=False,
        soft_wrap=True,
    )
