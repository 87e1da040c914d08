"""`check` without fork, as on Windows and macOS: forced here, with everything taken away that only Unix has."""

import pytest

from autograder import spawned
from autograder.feedback import Check, start_worker
from autograder.limits import Limits
from autograder.sandbox import Worker
from autograder.spawned import Spawned
from autograder.tasks import FILES, ROOT

# Runs the worker's entry in an interpreter that lacks what Windows lacks.
WITHOUT_UNIX = """
import os, runpy, signal, sys
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "setsid", "pidfd_open"):
    delattr(os, name)
for name in ("SIGALRM", "setitimer", "ITIMER_REAL", "SIGXCPU", "SIGKILL"):
    delattr(signal, name)
runpy.run_path({entry!r}, run_name="__main__")
"""
# What the student's `nms` does -> status and message of the probe.
MISBEHAVIOUR = {
    "endless loop": ("while True: pass", "timeout", "stopped after 3 s"),
    "endless loop that catches everything": (
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        "timeout",
        "stopped after 3 s",
    ),
    "exception": ("raise ValueError('so it goes')", "error", "ValueError: so it goes"),
    "exit": ("raise SystemExit(3)", "error", "SystemExit: 3"),
    "death": ("import os; os._exit(0)", "died", "ended the program without an answer"),
    "crash": ("import ctypes; ctypes.string_at(0)", "died", "crashed with SIGSEGV"),
    "closed channel": ("import os; os.closerange(0, 64); import time; time.sleep(60)", "died", "without an answer"),
    "not an answer": ("return lambda: 0", "error", "expected a tensor"),
    "flood of prints": ("print('x' * 10**6, flush=True); raise ValueError('after it')", "error", "after it"),
    "the forbidden function": ("import torchvision; return torchvision.ops.nms(boxes, scores, 0.5)", "error", "nms"),
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    entry = tmp_path_factory.mktemp("entry") / "entry.py"
    entry.write_text(WITHOUT_UNIX.format(entry=str(spawned._ENTRY)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spawned, "_ENTRY", entry)
        with Spawned() as one:
            yield one


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all cases: an interpreter that survives one case serves the next."""
    return tmp_path_factory.mktemp("submission")


def nms_request(folder, inputs) -> dict:
    names = {"modules": ["common"], "replaced": [], "forbidden": ["nms"]}
    return {"folder": str(folder), **names, "probe": "call", "inputs": {"function": "nms", "arguments": inputs}}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", MISBEHAVIOUR)
def test_misbehaviour_ends_with_a_message_and_the_next_probe_works(case, worker, folder):
    body, status, message = MISBEHAVIOUR[case]
    (folder / "common.py").write_text(f"def nms(boxes, scores):\n    if boxes == 1: return 'fine'\n    {body}\n")
    outcome = worker.run(nms_request(folder, {"boxes": 0, "scores": 0}), Limits(seconds=3))
    assert (outcome.status, message in outcome.message) == (status, True), outcome
    if case == "endless loop":
        assert outcome.where == "common.py:3"
    assert len(outcome.output) < 2 * Limits().output_bytes
    assert worker.run(nms_request(folder, {"boxes": 1, "scores": 0})).value == "fine"


@pytest.mark.timeout(300)
def test_probes_of_one_check_share_an_interpreter_and_another_check_does_not(worker, tmp_path):
    pids = []
    for name in ("first", "first", "second"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "common.py").write_text("import os\ndef nms(boxes, scores): return os.getpid()\n")
        pids.append(worker.run(nms_request(tmp_path / name, {"boxes": 0, "scores": 0})).value)
    assert pids[0] == pids[1] != pids[2]


def test_worker_is_chosen_by_the_system_and_by_the_switch(monkeypatch):
    monkeypatch.setattr(spawned, "Interpreter", lambda: None)
    monkeypatch.delenv("FCOS_CHECK_SPAWN", raising=False)
    for platform, kind in (("win32", Spawned), ("darwin", Spawned)):
        monkeypatch.setattr("autograder.feedback.sys.platform", platform)
        assert type(start_worker()) is kind
    monkeypatch.setattr("autograder.feedback.sys.platform", "linux")
    monkeypatch.setenv("FCOS_CHECK_SPAWN", "1")
    assert type(start_worker()) is Spawned


# Task -> edit that spoils it (file, old, new); None leaves it right.
EDITS = {
    "1.2": None,
    "2.2": (1, "y2 - y], dim=-1) / stride", "y2 - y], dim=-1)"),
    "2.4": (1, ".clamp(min=0).sqrt().masked_fill", ".clamp(min=0).masked_fill"),
    "4.1": (0, "def nms(", "def another_name("),
}


@pytest.mark.timeout(300)
def test_card_is_the_same_as_with_fork(worker, solution_copy, spoil):
    for edit in filter(None, EDITS.values()):
        spoil(FILES[edit[0]], *edit[1:])
    cards = []
    with Worker() as forking:
        for one in (worker, forking):
            check = Check()
            check._worker = one
            check.use(solution_copy)
            cards.append(str(check(*EDITS)))
    assert cards[0] == cards[1]
    assert "The division by the stride is missing" in " ".join(cards[0].split())


@pytest.mark.timeout(300)
def test_edit_counts_at_the_next_check(worker, solution_copy, spoil):
    check = Check()
    check._worker = worker
    check.use(solution_copy)
    assert check("2.2").passed
    spoil(FILES[1], "y2 - y], dim=-1) / stride", "y2 - y], dim=-1) * stride")
    assert not check("2.2").passed


def test_worker_that_cannot_start_says_why(monkeypatch, tmp_path):
    entry = tmp_path / "entry.py"
    # Its output ends before it says anything, as it can look on a busy machine.
    entry.write_text("import os, time\nos.close(1)\ntime.sleep(0.2)\nraise ImportError('torch is broken here')\n")
    monkeypatch.setattr(spawned, "_ENTRY", entry)
    with Spawned() as one, pytest.raises(spawned.KitError, match="torch is broken here"):
        one.run(nms_request(ROOT, {}))
