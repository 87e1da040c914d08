"""The pytest plugin behind `kit grade` and `python -m pytest autograder --submission PATH`.

It gives graded tests their fixtures and collects what became of each part of each task. The results are composed from
the table of tasks: a part whose tests did not all run and pass earns nothing, whatever happened.
"""

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from autograder.case import FOLDER, Case, load_case
from autograder.compare import Mismatch
from autograder.errors import KitError
from autograder.reasons import printable, shortened
from autograder.sandbox import Worker
from autograder.session import GradedSubmission, NotYet, ProbeFailed, submission_seed
from autograder.tasks import Task, TaskTable


def task(task_id: str, part: str):
    """Mark a graded test: the task and the part of it that the test decides."""
    return pytest.mark.task(task_id, part)


@dataclass
class TestResult:
    """What became of one graded test.

    Attributes:
        name: of the test function.
        hidden: whether students have the test.
        passed: whether it passed.
        message: why not; empty when it passed. Of a hidden test it holds no value.
        status: "passed", "failed" or "not implemented".
    """

    __test__ = False  # not a test class, whatever its name

    name: str
    hidden: bool
    passed: bool
    message: str = ""
    status: str = "passed"


@dataclass(eq=False)  # pytest keeps plugins in sets
class Grading:
    """One run of the graded tests on one submission; registered with pytest as a plugin.

    Attributes:
        folder: the submission's files.
        table: of tasks.
        worker: runs the probes.
        upstream: answers other tasks' functions; None on a student's machine.
        tasks: ids to grade; None for all.
        public_only: leave out hidden tests.
        results: {(task, part): [TestResult]} as the tests end.
        on_result: called as each test ends.
        defect: what is broken in the kit itself, if anything is: then no grade may be given.
        notes: of the intake, to be shown beside the results.
        left_out: files that play no part, for the results file.
        deadline: on the monotonic clock, after which nothing more is graded; None for no such time.
        held_out: `HeldOut`, the images to measure a trained detector on; None for none.
        weights_problem: with the file of weights, as far as it is known.
        expected: {(task, part): number of tests}, known once they are collected.
    """

    folder: Path
    table: TaskTable
    worker: Worker
    upstream: object = None
    tasks: set[str] | None = None
    public_only: bool = False
    results: dict[tuple[str, str], list[TestResult]] = field(default_factory=dict)
    on_result: Callable[[str, str, TestResult], None] | None = None
    defect: KitError | None = None
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    deadline: float | None = None
    held_out: object = None
    weights_problem: str = ""
    expected: Counter = field(default_factory=Counter)
    _cases: dict[str, Case] = field(default_factory=dict)
    _outcomes: dict = field(default_factory=dict)
    _measured: object = None  # a Measurement, or the Mismatch that came instead

    def __post_init__(self):
        self.seed = submission_seed(self.folder)

    def pytest_configure(self, config):
        """Without a terminal nobody sees tracebacks; pytest's long ones print every argument, tensors and all."""
        if not hasattr(config.option, "tbstyle"):
            config.option.tbstyle = "short"

    def pytest_collectreport(self, report):
        """Keep what went wrong while graded tests were collected."""
        if report.failed:
            self.defect = KitError(f"a graded test cannot be imported: {report.longreprtext.strip()}")

    def pytest_collection_modifyitems(self, config, items):
        """Keep the tests that were asked for, in the order of the table."""
        order = {task.id: i for i, task in enumerate(self.table.graded)}
        asked = set(order) if self.tasks is None else self.tasks & set(order)
        if not self.public_only:
            # A task that trains has to know which of the tasks that it builds on have lost points.
            asked |= {
                need for task_id in asked if not self.table[task_id].symbols for need in self.table[task_id].needs
            }
        kept, dropped = [], []
        for item in items:
            marker = item.get_closest_marker("task")
            if marker is None:
                raise pytest.UsageError(f"{item.nodeid} lacks @task(...)")
            task_id, part_id = marker.args
            try:
                part = self.table[task_id].part(part_id)
            except KeyError:
                raise pytest.UsageError(f"{item.nodeid}: task {task_id} has no part {part_id!r}") from None
            if part.hidden != _is_hidden(item):
                raise pytest.UsageError(f"{item.nodeid}: part {part_id!r} of task {task_id} is in the other folder")
            wanted = task_id in order and task_id in asked
            (kept if wanted and not (self.public_only and part.hidden) else dropped).append(item)

        # Hidden tests last: what a submission learns from their inputs can then reach no message that students see.
        # Then always the same order, whatever a plugin has made of it: of several failing tests the first is reported.
        def place(item):
            task_id, _ = item.get_closest_marker("task").args
            return _is_hidden(item), order[task_id], *item.location[:2], item.name

        items[:] = sorted(kept, key=place)
        self.expected = Counter(item.get_closest_marker("task").args for item in items)
        config.hook.pytest_deselected(items=dropped)

    @pytest.fixture
    def submission(self, request) -> GradedSubmission:
        """The submission under grading, for the test's task."""
        graded = self._graded(self.table[request.node.get_closest_marker("task").args[0]])
        graded.seconds_left()  # raises when there are none, before the reference computes anything
        return graded

    def _graded(self, task: Task) -> GradedSubmission:
        lost = {need: self._not_implemented(need) for need in task.needs if self._lost_points(need)}
        return GradedSubmission(
            self.folder, self.worker, self.table, task, self.upstream, lost, self._outcomes, self.deadline
        )

    @pytest.fixture
    def measurement(self):
        """How good the trained detector is."""
        return self.measure()

    @pytest.fixture
    def at_least(self, request) -> float:
        """The mean average precision, in percent, that decides the test's part."""
        task_id, part_id = request.node.get_closest_marker("task").args
        return self.table[task_id].part(part_id).at_least

    def measure(self):
        """Measure the trained detector on the held-out images, once; also where no task asks for it.

        Returns:
            A `Measurement`.

        Raises:
            Mismatch: it could not be measured.
        """
        from autograder.held_out import load_held_out  # these are not in a student's copy
        from autograder.measure import measure

        if self._measured is None:
            try:
                graded = self._graded(next(task for task in self.table.tasks if task.measures))
                self._measured = measure(graded, load_held_out(self.held_out), self.weights_problem)
            except Mismatch as mismatch:
                self._measured = mismatch
        if isinstance(self._measured, Mismatch):
            raise self._measured
        return self._measured

    def _lost_points(self, task_id: str) -> bool:
        return any(not result.passed for result in self._results_of(task_id))

    def _not_implemented(self, task_id: str) -> bool:
        """Whether every test that fails says so."""
        return all(result.passed or result.status == "not implemented" for result in self._results_of(task_id))

    def _results_of(self, task_id: str) -> list[TestResult]:
        return [result for (task, _), results in self.results.items() if task == task_id for result in results]

    @pytest.fixture
    def reference(self, request):
        """Function name -> stored case, from the folder of the test's own visibility."""
        folder = FOLDER / ("hidden" if _is_hidden(request.node) else "public")
        return lambda name: self._case(name, lambda: load_case(folder / f"{name}.safetensors"))

    @pytest.fixture
    def fresh(self):
        """Function name -> case with inputs made for this submission alone."""
        from autograder.oracle import make_case
        from autograder.oracle.all_cases import CASES

        def build(name: str):
            # The case's name goes into the seed, so that a test's inputs do not depend on which tests ran before it.
            generator = torch.Generator().manual_seed(self.seed ^ zlib.crc32(name.encode()))
            try:
                return make_case(*CASES[name][1](generator))
            except Exception as error:  # no submission takes part here, so this must not cost a student points
                raise KitError(f"the case {name} cannot be made: {type(error).__name__}: {error}") from error

        return lambda name: self._case(name, lambda: build(name))

    def _case(self, name: str, make: Callable) -> Case:
        """Return a case; the tests of several parts that ask for the same one share it, and one run of its probe."""
        if name not in self._cases:
            self._cases[name] = make()
        return self._cases[name]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        """Record the result of each graded test."""
        outcome = yield
        if (call.when == "setup" and call.excinfo is None) or call.when == "teardown":
            return
        del outcome
        task_id, part_id = item.get_closest_marker("task").args
        hidden = _is_hidden(item)
        result = TestResult(item.name, hidden, call.excinfo is None)
        if call.excinfo is not None:
            error = call.excinfo.value
            if isinstance(error, KitError):
                self.defect = self.defect or error
            if hidden:
                message = _explain_hidden(error, self.table[task_id].part(part_id).title)
            else:
                message = _explain_public(error, task_id, item.function.__doc__ or "")
            result.message = printable(shortened(message))
            result.status = "not implemented" if _is_unfinished(error) else "failed"
        self.results.setdefault((task_id, part_id), []).append(result)
        if self.on_result is not None:
            self.on_result(task_id, part_id, result)


def _is_unfinished(error: BaseException) -> bool:
    if isinstance(error, ProbeFailed):
        return error.outcome.error_type == "NotImplementedError"
    return isinstance(error, NotYet)


def _is_hidden(item) -> bool:
    return item.path.parent.name == "hidden"


def _explain_public(error: BaseException, task_id: str, asked: str) -> str:
    """Say which task failed, what was asked, and what came."""
    asked = asked.strip().partition("\n")[0].rstrip(".")
    return f'Task {task_id}, "{asked}": {_problem(error) or error}'


def _explain_hidden(error: BaseException, behaviour: str) -> str:
    """Say which behaviour is wrong and what kind of problem it is, without a value."""
    problem = _problem(error) or error.problem + (f". {error.hint}" if error.hint else "")
    return f"{behaviour}: {problem}"


def _problem(error: BaseException) -> str:
    """Say what is wrong when no graded test has said it."""
    if isinstance(error, Mismatch):
        return ""
    # An answer of a form that no probe gives: frames can be forged, and a skip raised here must not pass either.
    return f"the answer could not be read ({type(error).__name__})"
