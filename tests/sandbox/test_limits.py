"""Each limit is named in the outcome, costs that probe alone, and is kept from outside where the inside does not."""

import pytest

from autograder.limits import Limits

LONG = Limits(seconds=60)
SHORT = Limits(seconds=2)
SMALL = Limits(seconds=30, memory_gib=0.25)

# What a submission does, within what, and what is said about it.
CASES = {
    "an endless loop": ("def f():\n    while True: pass", SHORT, "timeout", "stopped after 2 s"),
    "a loop that swallows the alarm": (
        "def f():\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        SHORT,
        "timeout",
        "stopped after 2 s",
    ),
    "a loop inside C": (
        "import itertools\ndef f():\n    max(itertools.repeat(1))",
        SHORT,
        "timeout",
        "stopped after 2 s",
    ),
    "sleep": ("import time\ndef f():\n    time.sleep(100)", SHORT, "timeout", "stopped after 2 s"),
    "tensors": (
        "import torch\ndef f():\n    return len([torch.ones(25 << 20) for _ in range(10)])",
        SMALL,
        "memory",
        "used more than 0.25 GiB",
    ),
    "bytes": (
        "def f():\n    return len([bytearray(50 << 20) for _ in range(20)])",
        SMALL,
        "memory",
        "used more than 0.25 GiB",
    ),
    "memory of children": (
        "import os, time\ndef f():\n    for _ in range(6):\n        if os.fork() == 0:\n"
        "            kept = b'x' * (180 << 20)\n            time.sleep(30)\n    time.sleep(30)",
        SMALL,
        "memory",
        "used more than 0.25 GiB",
    ),
    "threads": (
        "import threading, time\ndef f():\n    for _ in range(200):\n"
        "        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n    time.sleep(30)",
        LONG,
        "processes",
        "started more than 64 processes and threads",
    ),
    "processes": (
        "import os, time\ndef f():\n    for _ in range(200):\n        if os.fork() == 0:\n"
        "            time.sleep(30)\n            os._exit(0)\n    time.sleep(30)",
        LONG,
        "processes",
        "started more than 64 processes and threads",
    ),
    "a file": (
        "import tempfile\ndef f():\n    tempfile.TemporaryFile().write(bytes(65 << 20))",
        LONG,
        "error",
        "File too large",
    ),
    "open files": (
        "import os\ndef f():\n    return [os.open('/dev/null', 0) for _ in range(300)]",
        LONG,
        "error",
        "Too many open files",
    ),
    "an answer beyond the limit": (
        "import torch\ndef f():\n    return torch.ones(20 << 20)",
        LONG,
        "error",
        "too large",
    ),
}


@pytest.mark.parametrize(("code", "limits", "status", "message"), CASES.values(), ids=CASES)
def test_limit_is_named(call, level, code, limits, status, message):
    outcome = call(code, level, limits)
    assert (outcome.status, message in outcome.message) == (status, True), outcome


def test_next_probe_is_unaffected(call, level):
    call("import os\ndef f():\n    os.kill(os.getpid(), 9)", level, LONG)
    assert call("def f():\n    return 7", level, LONG).value == 7


def test_line_of_an_endless_loop_is_named(call, write_submission):
    folder = write_submission("x = 1\ndef f():\n    while True:\n        pass\n")
    assert call("", folder=folder, limits=SHORT).where in ("common.py:3", "common.py:4")


def test_import_has_its_own_limit(call, write_submission):
    outcome = call("", folder=write_submission("x = 1\nwhile True:\n    x += 1\n"), limits=Limits(seconds=5))
    assert outcome.stage == "import"
    assert outcome.message.startswith("common.py cannot be imported: it takes too long")
    assert outcome.where in ("common.py:2", "common.py:3")


def test_input_at_import_gets_the_end_of_a_file(call, write_submission):
    outcome = call("", folder=write_submission("name = input('name? ')\n"), limits=LONG)
    assert (outcome.error_type, outcome.where) == ("SubmissionError", "common.py:1")
    assert "EOFError" in outcome.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\ndef f():\n    os.abort()", "crashed with SIGABRT"),
        ("import ctypes\ndef f():\n    ctypes.string_at(0)", "crashed with SIGSEGV"),
        ("import os\ndef f():\n    os._exit(0)", "ended the program without an answer"),
    ],
)
def test_end_of_a_probe_is_named(call, code, message):
    outcome = call(code, limits=LONG)
    assert (outcome.status, outcome.message) == ("died", message)


def test_a_submission_has_a_limit_over_all_its_probes(call, write_submission):
    folder = write_submission("import time\ndef f():\n    time.sleep(0.6)\n    return 1")
    limits = Limits(seconds=30, submission_seconds=1)
    outcomes = [call("", folder=folder, limits=limits) for _ in range(3)]
    assert outcomes[0].status == "ok"
    assert (outcomes[2].status, outcomes[2].message) == ("timeout", "the submission has used its 1 s")
    assert call("def f():\n    return 7", limits=LONG).value == 7  # another submission has its own


WITHOUT_SIZE = {
    "files": (
        "import os, time\ndef f():\n    for number in range(600):\n        os.mknod(f'/tmp/{number}')\n"
        "    time.sleep(30)",
        "made more than 500 files",
    ),
    # Nobody holds a descriptor of those that called: they wait in the queue.
    "connections that nobody accepts": (
        "import socket, time\ndef f():\n    listener = socket.socket(socket.AF_UNIX)\n    listener.bind('')\n"
        "    listener.listen(128)\n    for _ in range(100):\n        with socket.socket(socket.AF_UNIX) as caller:\n"
        "            caller.connect(listener.getsockname())\n    time.sleep(30)",
        "used more than 90 sockets",
    ),
}


@pytest.mark.at("bubblewrap")
@pytest.mark.parametrize(("code", "message"), WITHOUT_SIZE.values(), ids=WITHOUT_SIZE)
def test_memory_that_no_process_is_charged_for_is_limited(call, level, code, message):
    outcome = call(code, level, Limits(seconds=20, files=500, sockets=90))
    assert (outcome.status, outcome.message) == ("memory", message)
    assert call("def f():\n    return 7", level, LONG).value == 7


@pytest.mark.at("bubblewrap")
def test_full_disk_is_an_error_and_is_empty_again(call, level):
    code = """
import os
def f():
    written = 0
    try:
        for number in range(100):
            with open(f"/tmp/{number}", "wb") as file:
                written += file.write(bytes(8 << 20))
    except OSError as error:
        return [written >> 20, error.strerror]
"""
    for _ in range(2):
        written, reason = call(code, level, LONG).value
        assert (200 <= written <= 256, reason) == (True, "No space left on device")


@pytest.mark.at("bubblewrap")
def test_zygote_that_is_destroyed_costs_one_start(call, level, workers):
    """With the filter of system calls off, as on a kernel without it, a probe can kill the zygote."""
    code = "import os\ndef f():\n    os.kill(os.getppid(), 9)\n    return 1"
    outcome = call(code, level, LONG)
    assert "PermissionError" in outcome.message
    worker = workers(level)
    worker._process.kill()
    worker._process.wait()
    assert call("def f():\n    return 7", level, LONG).value == 7


def test_submission_computes_on_one_thread_whatever_its_files_say(call, write_submission):
    folder = write_submission("import torch\ntorch.set_num_threads(2)\ndef f():\n    return torch.get_num_threads()")
    assert call("", folder=folder).value == 1
