"""Nothing of a probe runs on when its grader or its zygote is gone."""

import contextlib
import os
import subprocess
import sys
import time

import psutil
import pytest

from autograder.tasks import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of ended parents on Linux alone")

# Its process, a child's, and the zygote's.
SUBMISSION = """
import os, sys, time
child = os.fork()
if child:
    with open({path!r}, "w") as file:
        file.write(f"{{os.getpid()}} {{child}} {{os.getppid()}}\\n")
time.sleep(300)
"""
GRADER = """
import sys
from autograder.limits import Limits
from autograder.sandbox import Worker
request = {"folder": sys.argv[1], "modules": ["common"], "replaced": [], "forbidden": [], "probe": "call"}
with Worker() as worker:
    worker.run({**request, "inputs": {"function": "f", "arguments": {}}}, Limits(seconds=500))
"""


@pytest.fixture
def processes(tmp_path):
    """A grader, and the probe, the probe's child and the zygote that it has started."""
    path = tmp_path / "pids"
    (tmp_path / "common.py").write_text(SUBMISSION.format(path=str(path)))
    grader = subprocess.Popen(
        [sys.executable, "-c", GRADER, str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    others = [psutil.Process(int(pid)) for pid in path.read_text().split()]
    yield [grader, *others]
    grader.kill()
    grader.wait()
    for process in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_probe_and_its_children_end_with_the_grader(processes):
    grader, *others = processes
    grader.kill()
    grader.wait()
    _, alive = psutil.wait_procs(others, timeout=20)
    assert not alive


def test_probe_ends_with_the_zygote(processes):
    _, probe, _, zygote = processes
    zygote.kill()
    _, alive = psutil.wait_procs([probe], timeout=20)
    assert not alive
