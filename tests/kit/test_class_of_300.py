"""The benchmark of a class: the same class every time, a run that goes on where it was stopped, a fair other side."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from autograder.grade import grade
from autograder.tasks import ROOT


@pytest.fixture(scope="module")
def benchmark():
    """The module; it finds its neighbours as a script does."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import class_of_300

        yield class_of_300
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}


def test_class_is_the_same_every_time_and_everybody_differs(benchmark, tmp_path):
    students = [benchmark.make_class(tmp_path / name, 30, random.Random(5)) for name in ("a", "b")]
    assert students[0] == students[1]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    detectors = [(tmp_path / "a" / student / "one_stage_detector.py") for student in students[0]]
    assert len({path.read_bytes() for path in detectors if path.exists()}) == sum(path.exists() for path in detectors)
    # Of 300 students 40 are hostile, 100 mutants, 49 variants: of 30 a tenth of each.
    kinds = [one.kind for one in students[0].values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"hostile": 4, "mutant": 10, "variant": 5, "solution": 11}


def test_seconds_of_a_stopped_step_add_up_and_an_ended_step_is_not_run_again(benchmark, tmp_path):
    runs = tmp_path / "runs"
    command = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(int(sys.argv[2]))", runs]
    with pytest.raises(SystemExit, match="grade: ended with 3"):
        benchmark.Steps(tmp_path / "steps.json").run("grade", [*command, "3"])
    stopped = benchmark.Steps(tmp_path / "steps.json").done["grade"]
    for _ in range(2):
        steps = benchmark.Steps(tmp_path / "steps.json")
        steps.run("grade", [*command, "0"])
    assert runs.read_text() == "xx"
    assert not stopped["ended"]
    assert steps.done["grade"]["ended"]
    assert steps.done["grade"]["seconds"] > stopped["seconds"] > 0


def test_stopped_benchmark_stops_what_it_runs(benchmark, tmp_path):
    child = "import time, os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    parent = "import sys, watched; watched.run_watched([sys.executable, '-c', *sys.argv[1:]])"
    command = [sys.executable, "-c", parent, child, str(tmp_path / "pid")]
    with subprocess.Popen(command, cwd=ROOT / "benchmarks", stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(60)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# Two mistakes in tasks with and without functions of other tasks. Without the same points on both sides the comparison
# would be one of two different things.
MISTAKES = {"(deltas.clamp(min=0) * stride)": "(deltas * stride)", "self._normalizer = 150": "self._normalizer = 9"}


@pytest.mark.parametrize("mistakes", [{}, MISTAKES], ids=["right", "wrong"])
def test_tests_give_the_same_points_in_a_kernel(benchmark, mistakes, tmp_path):
    from in_kernel import InKernel

    for name in ("common.py", "one_stage_detector.py"):
        text = (ROOT / "solutions" / name).read_text()
        for right, wrong in mistakes.items():
            text = text.replace(right, wrong)
        (tmp_path / name).write_text(text)
    tasks = {"2.3", "3.1"}
    kit, kernel = grade(tmp_path, tasks=tasks), grade(tmp_path, tasks=tasks, worker=InKernel())
    assert [row["points"] for row in kernel["tasks"]] == [row["points"] for row in kit["tasks"]]
    assert all((row["points"] == row["max_points"]) == (not mistakes) for row in kit["tasks"])
