"""Real grader processes: they serve many submissions, and whatever becomes of one, its parent goes on."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import psutil
import pytest

from autograder.errors import KitError
from autograder.grader_process import steady
from autograder.graders import Grader, GraderDied, GraderPool, Job
from autograder.tasks import ROOT

SOLUTIONS = Job((str(ROOT / "solutions"),), tasks=("1.2",), isolation="process")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folder for everything temporary, to see what is left in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def pid_of(grader: Grader) -> int:
    return grader._process.pid


def test_one_process_serves_many_submissions_and_is_replaced_when_it_dies(places):
    (places / "empty").mkdir()
    grader = Grader()
    threading.Timer(0.2, lambda: os.kill(pid_of(grader), signal.SIGKILL)).start()
    with pytest.raises(GraderDied, match="the grader ended: exit code -9"):
        grader.grade(SOLUTIONS)
    results = grader.grade(SOLUTIONS)
    first = pid_of(grader)
    assert (results["total"], results["isolation"]) == (6, "process")
    refused = grader.grade(Job((str(places / "empty"),), tasks=("1.2",)))
    assert (refused["total"], refused["max_total"], refused["isolation"]) == (0, 6, "not started")
    assert refused["tasks"][0]["message"].startswith("empty: holds neither common.py")
    with pytest.raises(KitError, match="no such file"):
        grader.grade(Job((str(places / "nowhere"),), tasks=("1.2",)))
    assert pid_of(grader) == first
    grader.stop()
    assert [path.name for path in places.iterdir()] == ["empty"]


def test_grader_that_hangs_is_ended(places):
    grader = Grader()
    with pytest.raises(GraderDied, match=r"no answer in 0\.05 s"):
        grader.grade(SOLUTIONS, patience=0.05)
    assert list(places.iterdir()) == []


def test_grader_that_holds_too_much_memory_is_replaced(places, monkeypatch):
    monkeypatch.setattr("autograder.graders.MAX_MEMORY", 1)
    grader = Grader()
    (places / "empty").mkdir()
    assert grader.grade(Job((str(places / "empty"),), tasks=("1.2",)))["total"] == 0
    assert grader._process is None


def test_last_words_of_a_grader_are_told(places, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(GraderDied, match="the grader ended: exit code 1"):
        Grader().grade(SOLUTIONS)


def test_closing_the_pool_ends_graders_at_work(places):
    pool, errors = GraderPool(), []

    def work():
        try:
            pool.grade(SOLUTIONS)
        except GraderDied as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    while not any(grader._process for grader in pool._busy):
        time.sleep(0.005)
    pool.close()
    thread.join(timeout=30)
    assert errors == ["the grader ended: exit code -9"]
    assert list(places.iterdir()) == []


def test_grader_ends_and_cleans_up_when_its_parent_is_killed(places):
    code = f"""
import tempfile; tempfile.tempdir = {str(places)!r}
from autograder.graders import *
import threading
grader = Grader()
threading.Timer(0.2, lambda: print(grader._process.pid, flush=True)).start()
grader.grade(Job(({str(ROOT / "solutions")!r},)))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert list(places.iterdir()) == []


STAGING = f"{tempfile.gettempdir()}/kit-grader-ab_1/kit-submission-x9y8"
VARYING = {
    f"FileNotFoundError: '{STAGING}/data.bin'": "FileNotFoundError: 'data.bin'",
    "<X object at 0x7f00deadbeef>, 0xff": "<X object at 0x>, 0xff",
    "nonce " + "0123456789abcdef" * 2: "nonce ",
    "digest " + "0123456789abcdef" * 4: "digest " + "0123456789abcdef" * 4,
}


@pytest.mark.parametrize("message", VARYING)
def test_message_does_not_change_from_run_to_run(message):
    assert steady({"notes": [message], "total": 6}) == {"notes": [VARYING[message]], "total": 6}


# A text ends where it ends, whatever quotes stand in it and whatever text comes next.
QUOTED = [f'no "{STAGING}/a.bin"', f'no "{STAGING}', f'{STAGING}", "total": 6, "x": "', f"{STAGING}\\"]


@pytest.mark.parametrize("text", QUOTED)
def test_text_with_quotes_changes_nothing_beside_it(text):
    rows = {"total": 0, "notes": [text, "next"], "tasks": [{"message": text, "points": 0}]}
    found = steady(rows)
    assert (found["total"], found["notes"][1], found["tasks"][0]["points"]) == (0, "next", 0)
    assert (list(found), list(found["tasks"][0])) == (["total", "notes", "tasks"], ["message", "points"])
    assert "kit-submission" not in json.dumps(found)
