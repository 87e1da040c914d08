"""Grades one submission: runs the graded tests and composes the results from the table of tasks."""

import contextlib
import importlib.metadata
import io
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autograder.errors import KitError
from autograder.filenames import shown, visible
from autograder.flags import find_flags, weights_problem
from autograder.intake import open_submission
from autograder.isolation import choose_level, exposed_at
from autograder.sandbox import Worker
from autograder.tasks import Part, Task, TaskTable, load_tasks

GRADED = Path(__file__).resolve().parent / "graded"
MAX_REASON = 400  # characters of a note
NOT_STARTED = "not started"  # the isolation of a submission that could not be taken in
NOT_RUN = "the test of this part did not run"


def has_oracle() -> bool:
    """Whether this copy of the kit holds the hidden tests' answers; a student's copy does not."""
    return (Path(__file__).resolve().parent / "oracle" / "__init__.py").is_file()


def require_no_images(table: TaskTable, tasks: Collection[str] | None = None) -> None:
    """Raise `KitError` when one of the tasks, by default of all, measures trained detectors on held-out images."""
    for task in table.graded:
        if task.measures and (tasks is None or task.id in tasks):
            raise KitError(
                f"task {task.id} measures trained detectors on held-out images: add --weights, and --held-out FOLDER "
                "for images of your own; or set given = true for it in solutions/tasks.toml"
            )


@contextmanager
def grading_session(
    path: Path | Sequence[Path],
    table: TaskTable | None = None,
    tasks: set[str] | None = None,
    public_only: bool = False,
    worker: Worker | None = None,
    as_student: bool = False,
    isolation: str | None = None,
    held_out=None,
) -> Iterator:
    """Lay out a submission, start its worker, and yield the `Grading` plugin for pytest.

    The worker imports torch while this process does the same, on the other core. See `grade` for the arguments.
    """
    table = table or load_tasks()
    table.require_graded(tasks or ())
    if held_out is None and not public_only:
        require_no_images(table, tasks)
    with contextlib.ExitStack() as stack:
        intake = stack.enter_context(open_submission(path))
        if worker is None:
            level, warning = choose_level(isolation)
            worker = stack.enter_context(Worker(level, intake.folder, warning))
        exposed = "" if held_out is None else exposed_at(worker.isolation, Path(held_out.root))
        if exposed not in worker.isolation_warning:
            worker.isolation_warning = "; ".join(filter(None, [worker.isolation_warning, exposed]))
        from autograder.plugin import Grading  # imports torch

        stack.enter_context(_one_thread())
        upstream = None
        if has_oracle() and not as_student:
            from autograder.oracle import Upstream

            upstream = Upstream()
        said = {"notes": intake.notes, "left_out": intake.left_out, "held_out": held_out}
        yield Grading(intake.folder, table, worker, upstream, tasks, public_only, **said)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread: tensors are small here, and on a busy machine threads wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def grade(
    path: Path | Sequence[Path],
    table: TaskTable | None = None,
    tasks: set[str] | None = None,
    public_only: bool = False,
    worker: Worker | None = None,
    on_result=None,
    as_student: bool = False,
    isolation: str | None = None,
    seconds: float | None = None,
    on_progress: Callable[[dict], None] | None = None,
    held_out=None,
) -> dict:
    """Grade one submission.

    Args:
        path: folder, zip, tar or tar.gz; or .py files given together.
        table: of tasks; by default the kit's.
        tasks: ids to grade; None for all.
        public_only: leave out hidden tests and the points of hidden parts.
        worker: to use; by default a new one that ends with this call.
        on_result: called with (task id, part id, TestResult) as each test ends.
        isolation: level of a new worker, see `autograder.isolation`; None for the strongest that can be had here.
        as_student: public tests only, and calls of other tasks' functions go to the submission's own, as they must
            where there is no reference.
        seconds: for all of it; what has not been graded by then loses its points and says so. None for no such limit.
        on_progress: called as each test ends, with the results so far: parts that are not decided have no points.
        held_out: `autograder.held_out.HeldOut`, the images to measure the trained detector on, whether or not a task
            asks for it; None for none.

    Returns:
        The results, ready for JSON: total, max_total, isolation and a warning if it is weaker than it could be, seed,
        versions, notes of the intake, every file that it left out, flags for a person to look at, and every expected
        task whatever happened. With held-out images also held_out (which), measures {"mAP": 0 to 1} and pictures (what
        was found on a few of them); these two are empty when the detector could not be measured.

    Raises:
        SubmissionRefused: neither of the two files can be had from `path`; for a student, `refused_results` says so.
        KitError: there is nothing at `path`, or the kit itself is broken.
    """
    import pytest

    started = time.monotonic()
    table = table or load_tasks()
    as_student = as_student or not has_oracle()
    public_only = public_only or as_student
    with grading_session(path, table, tasks, public_only, worker, as_student, isolation, held_out) as session:
        session.deadline = None if seconds is None else started + seconds
        flags = []
        if not as_student:
            flags = find_flags(session.worker, session.folder)
            if problem := weights_problem(session.worker, session.folder):
                session.notes.append(shown(problem))
                session.weights_problem = shown(problem)

        def test_ended(*result):
            if on_result is not None:
                on_result(*result)
            if on_progress is not None:
                on_progress(_compose(session, tasks, public_only) | {"flags": flags})

        session.on_result = test_ended
        folders = [str(GRADED / "public")] + ([] if public_only else [str(GRADED / "hidden")])
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = pytest.main(
                [
                    *folders,
                    f"--rootdir={GRADED.parent}",
                    f"--confcutdir={GRADED.parent}",
                    *("-c", str(GRADED.parent / "pytest.ini")),
                    *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:terminal", "-p", "no:logging"),
                    # These collect garbage when a session ends: half a second that every check would wait.
                    *("-p", "no:unraisableexception", "-p", "no:threadexception"),
                    *("-p", "no:faulthandler", "-p", "no:timeout", "-p", "no:anyio", "-p", "no:hypothesispytest"),
                    *("-p", "no:xdist"),
                    "--capture=no",
                ],
                plugins=[session],
            )
        if session.defect is not None:
            raise session.defect
        if code == pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt  # pytest has caught it
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise KitError(f"the graded tests could not be run:\n{output.getvalue().strip()}")
        measured = {} if held_out is None else _measured(session)  # may leave a note
        return _compose(session, tasks, public_only) | {"flags": flags} | measured


def refused_results(
    reason: str,
    table: TaskTable | None = None,
    tasks: set[str] | None = None,
    public_only: bool = False,
    held_out=None,
) -> dict:
    """Return the results of a submission that could not be taken in: every expected task, without a point, and why."""
    table = table or load_tasks()
    rows = [_task_result(task, {}, public_only, reason) for task in table.graded if tasks is None or task.id in tasks]
    measured = {} if held_out is None else _with_measures(held_out)
    results = _results(table, rows, public_only, NOT_STARTED, "", seed=None, notes=[reason])
    return results | {"left_out": [], "flags": []} | measured


def _measured(session) -> dict:
    """Return what was measured on held-out images; where that failed and no task says why, a note does."""
    from autograder.compare import Mismatch

    try:
        found = session.measure()
    except Mismatch as mismatch:
        graded = [task for task in session.table.graded if session.tasks is None or task.id in session.tasks]
        if not any(task.measures for task in graded):
            reason = visible(mismatch.problem or str(mismatch))[:MAX_REASON]
            session.notes.append(f"mAP could not be measured: {reason}")
        return _with_measures(session.held_out)
    return _with_measures(session.held_out, {"mAP": found.mean_ap}, found.pictures)


def _with_measures(held_out, measures: dict | None = None, pictures: dict | None = None) -> dict:
    from autograder.held_out import described

    return {"held_out": described(held_out), "measures": measures or {}, "pictures": pictures or {}}


def _compose(session, tasks: set[str] | None, public_only: bool) -> dict:
    """Put the results together from the list of what is expected, never from what happened to be reported."""
    rows = [
        _task_result(task, session.results, public_only, expected=session.expected)
        for task in session.table.graded
        if tasks is None or task.id in tasks
    ]
    worker = session.worker
    level, warning = worker.isolation, worker.isolation_warning
    results = _results(session.table, rows, public_only, level, warning, session.seed, session.notes)
    return results | {"left_out": session.left_out}


def _results(
    table: TaskTable, rows: list, public_only: bool, isolation: str, warning: str, seed: int | None, notes: list[str]
) -> dict:
    return {
        "total": sum(row["points"] for row in rows),
        "max_total": sum(row["max_points"] for row in rows),
        "isolation": isolation,
        "isolation_warning": warning,
        "seed": seed,
        "public_only": public_only,
        "tasks_sha256": table.digest,
        "versions": _versions(),
        "notes": notes,
        "tasks": rows,
    }


def _task_result(
    task: Task, results: dict, public_only: bool, absent: str = NOT_RUN, expected: dict | None = None
) -> dict:
    parts = [part for part in task.parts if not (public_only and part.hidden)]
    expected = expected or {}
    rows = [
        _part_result(part, results.get((task.id, part.id), []), expected.get((task.id, part.id), 1), absent)
        for part in parts
    ]
    points = sum(row["points"] for row in rows)
    max_points = sum(part.points for part in parts)
    failing = [row for row in rows if row["status"] != "passed"]
    if not parts:
        status = "not graded"
    elif not failing:
        status = "passed"
    elif all(row["status"] == "not implemented" for row in failing) and points == 0:
        status = "not implemented"
    else:
        status = "partial" if points else "failed"
    return {
        "id": task.id,
        "title": task.title,
        "points": points,
        "max_points": max_points,
        "status": status,
        "message": failing[0]["message"] if failing else "" if parts else "only hidden tests grade this task",
        "parts": rows,
    }


def _part_result(part: Part, results: list, expected: int, absent: str) -> dict:
    failing = [result for result in results if not result.passed]
    passed = len(results) >= expected and not failing
    if passed:
        status, message = "passed", ""
    elif failing:
        status, message = failing[0].status, failing[0].message
    else:
        status, message = "failed", absent
    return {
        "id": part.id,
        "title": part.title,
        "hidden": part.hidden,
        "points": part.points if passed else 0,
        "max_points": part.points,
        "status": status,
        "message": message,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in ("fcos-course-kit", "torch", "torchvision"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
