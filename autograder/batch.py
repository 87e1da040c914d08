"""Grades a class: every submission once, each result written as soon as it is there, nothing lost when it is stopped.

    OUT/results/<id>.json   one for each student, written under another name first: it is whole or it is not there
    OUT/summary.json, .csv  composed from those files at the end

A result depends on the submission and the kit alone, never on the time, the order or the number of jobs. So a run that
was killed and resumed leaves the same files, byte for byte, as one that was not. (Only a submission that itself does
something different each time, and says so in an error, has a message that differs.)
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autograder.errors import KitError
from autograder.fingerprint import fingerprint
from autograder.grade import NOT_STARTED
from autograder.graders import Job, grade_job
from autograder.held_out import HeldOut, described
from autograder.identity import ClassFolder, Submission
from autograder.isolation import LEVELS
from autograder.soundness import UnsoundResults, require_sound
from autograder.tasks import TaskTable

CHECK_AFTER = 5.0  # seconds in which no grading ends
GIVE_UP_AFTER = 10  # failures without one success: the kit is broken, and no submission


@dataclass(frozen=True)
class Options:
    """What is graded, the same for the whole class; see `autograder.graders.Job`."""

    tasks: tuple[str, ...] | None = None
    public_only: bool = False
    isolation: str | None = None
    held_out: HeldOut | None = None


@dataclass
class Tally:
    """How far a class is.

    Attributes:
        expected: number of submissions.
        graded: how many have results, those of an earlier run included.
        kept: how many of these are of an earlier run.
        points: sum of their totals.
        refused: how many of them could not be taken in.
        not_graded: id -> why there is no result: the grader failed twice, the second time with nothing beside it.
    """

    expected: int
    graded: int = 0
    kept: int = 0
    points: int = 0
    refused: int = 0
    not_graded: dict[str, str] = field(default_factory=dict)

    def add(self, results: dict) -> None:
        """Count one submission's results."""
        self.graded += 1
        self.points += results["total"]
        self.refused += results["seed"] is None


class ResultStore:
    """The results of a class on disk.

    Attributes:
        weaker: ids whose results were there, but from a weaker isolation than is insisted on now: they do not count.
    """

    def __init__(self, out: Path, table: TaskTable, options: Options):
        self.out, self.folder = out, out / "results"
        self._table, self._options = table, options
        self.weaker: set[str] = set()
        self._held_out = None if options.held_out is None else described(options.held_out)

    @contextmanager
    def opened(self, resume: bool) -> Iterator[None]:
        """Make the folder, and keep other runs out of it.

        Raises:
            KitError: the folder cannot be written, is in use, or holds results and `resume` is False.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.out / ".lock", "w")  # noqa: SIM115 - closed below
        except OSError as error:
            raise KitError(f"{self.out}: results cannot be written there ({error.strerror})") from None
        with lock:
            _lock(lock, self.out)
            if not resume and any(self.folder.glob("*.json")):
                raise KitError(f"{self.out}: holds results; go on with --resume, or name another folder with --out")
            for unfinished in self.folder.glob(".*.part"):
                unfinished.unlink()
            yield

    def path(self, student: str) -> Path:
        """Return the place of a student's results."""
        return self.folder / f"{student}.json"

    def load(self, submission: Submission) -> dict | None:
        """Return the results of this very submission, if they are there and of the isolation that is insisted on.

        Raises:
            KitError: they were made with other tasks or options, so that no two results could be compared.
        """
        path, options = self.path(submission.id), self._options
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
            digest, tasks = results["tasks_sha256"], [row["id"] for row in results["tasks"]]
        except OSError:
            return None
        except (ValueError, TypeError, KeyError):
            raise KitError(f"{path}: not a result of this command; move it away") from None
        expected = [task.id for task in self._table.graded if options.tasks is None or task.id in options.tasks]
        if digest != self._table.digest or tasks != expected or results["public_only"] != options.public_only:
            raise KitError(
                f"{path}: graded with another table of tasks, --task or --public-only; name another folder with --out"
            )
        if results.get("held_out") != self._held_out:
            raise KitError(f"{path}: measured on other held-out images, or on none; name another folder with --out")
        if results.get("members", []) != list(submission.members):
            return None
        if results["submission_sha256"] != fingerprint(submission.paths):
            return None
        if _is_weaker(results.get("isolation", ""), options.isolation):
            self.weaker.add(submission.id)
            return None
        return results

    def save(self, submission: Submission, results: dict) -> dict:
        """Write a submission's results; at no moment is there half a file.

        Raises:
            KitError: there is no room for them, or the machine that graded has another table of tasks.
            UnsoundResults: they are none that the table of tasks allows; nothing is written.
        """
        if results.get("tasks_sha256") != self._table.digest:
            raise KitError("the machine that grades has another table of tasks; install the same kit everywhere")
        if results.get("held_out") != self._held_out:
            raise KitError("the machine that grades has other held-out images; let all read the same folder")
        require_sound(results, self._table, self._options.tasks, self._options.public_only)
        whose = {
            "id": submission.id,
            "submission": submission.source,
            "submission_sha256": fingerprint(submission.paths),
            "late": submission.late,
            "members": list(submission.members),
        }
        results = whose | results | whose  # first in the file, and nobody's results say whose they are
        write_whole(self.path(submission.id), json.dumps(results, indent=2) + "\n")
        return results


def write_whole(path: Path, text: str) -> None:
    """Write a file so that others see the old one or the new one, whatever happens.

    Raises:
        KitError: there is no room, or no right to write.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise KitError(f"{path}: cannot be written ({error.strerror})") from None


def _is_weaker(level: str, wanted: str | None) -> bool:
    """Whether something ran, and at a level below the one that is insisted on."""
    if wanted is None or level == NOT_STARTED:
        return False
    return level not in LEVELS or LEVELS.index(level) > LEVELS.index(wanted)


def _lock(file, out: Path) -> None:
    """Hold a file until it is closed, by this process or by its death."""
    try:
        import fcntl
    except ImportError:  # not on Windows, where nothing is graded but one's own
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise KitError(f"{out}: another run is writing results there") from None


def grade_class(
    found: ClassFolder,
    store: ResultStore,
    options: Options,
    executor: Executor,
    in_flight: int,
    tally: Tally,
    on_change: Callable[[Tally, Submission | None, dict | None], None] = lambda *_: None,
    grade: Callable[[Job], dict] = grade_job,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Grade every submission that has no result yet.

    Args:
        found: the class.
        store: opened; receives the results.
        options: what is graded.
        executor: runs `grade`, in threads, processes or on other machines.
        in_flight: jobs given to it at a time; so memory does not grow with the class.
        tally: new; it is right at every moment, also when this function does not return.
        on_change: called at the start and after each submission, with its results; None when there are none.
        grade: the function that grades one job.
        check: called from time to time while none ends; it raises `KitError` when waiting has become pointless.

    Raises:
        KitError: the kit is broken, or `check` gave up; results that are there stay.
        KeyboardInterrupt: as it came; results that are there stay.
    """
    pending = []
    for submission in found.submissions:
        results = store.load(submission)
        if results is None:
            pending.append(submission)
        else:
            tally.add(results)
            tally.kept += 1
    on_change(tally, None, None)

    def finish(submission: Submission, outcome: dict | Exception) -> Exception | None:
        """Keep results; return what went wrong where there are none."""
        if isinstance(outcome, Exception):
            return outcome
        try:
            results = store.save(submission, outcome)
        except UnsoundResults as unsound:
            return unsound
        tally.add(results)
        on_change(tally, submission, results)
        return None

    suspects: dict[Submission, Exception] = {}
    for submission, outcome in _run(pending, options, executor, in_flight, grade, check):
        if (problem := finish(submission, outcome)) is None:
            continue
        suspects[submission] = problem
        if tally.graded == 0 and len(suspects) == GIVE_UP_AFTER:
            raise KitError(f"nothing can be graded: {problem}") from problem
    # Whoever brought down a grader may have brought down its neighbours' as well. Alone, each answers for itself.
    for submission, outcome in _run(list(suspects), options, executor, 1, grade, check):
        if (problem := finish(submission, outcome)) is not None:
            tally.not_graded[submission.id] = str(problem)
            on_change(tally, submission, None)


def _run(
    submissions: list[Submission],
    options: Options,
    executor: Executor,
    at_once: int,
    grade: Callable[[Job], dict],
    check: Callable[[], None],
) -> Iterator[tuple[Submission, dict | Exception]]:
    """Yield each submission with its results, or with what went wrong, in the order in which they end."""
    waiting, running = iter(submissions), {}
    try:
        while True:
            while len(running) < at_once and (submission := next(waiting, None)):
                paths = tuple(str(path.resolve()) for path in submission.paths)
                job = Job(paths, options.tasks, options.public_only, options.isolation, options.held_out)
                try:
                    running[executor.submit(grade, job)] = submission
                except RuntimeError as error:  # BrokenExecutor is one, and so is an executor that was shut down
                    raise KitError(f"the executor takes no more jobs ({error}); go on with --resume") from error
            if not running:
                return
            while not (done := wait(running, timeout=CHECK_AFTER, return_when=FIRST_COMPLETED).done):
                check()
            for future in done:
                submission = running.pop(future)
                try:
                    outcome = future.result()
                except Exception as error:  # a KitError, a dead grader, and what a cluster raises for a lost worker
                    outcome = error
                yield submission, outcome
    finally:
        for future in running:
            future.cancel()
