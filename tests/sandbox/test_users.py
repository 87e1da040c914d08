"""The level `uid`, which is root's, and the level `bubblewrap` for an ordinary user who grades.

Where root's own home holds the interpreter, nobody else can run it. Then these tests open the way to it, in a mount
namespace of their own, so that nothing changes on the machine.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autograder import mounts
from autograder.tasks import ROOT

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can become another user"),
    pytest.mark.timeout(600),
]

LOOK_AROUND = """
import json, os, sys, tempfile
from pathlib import Path
from autograder.isolation import choose_level
from autograder.limits import Limits
from autograder.sandbox import Worker

SOURCE = '''
import os, json
def f():
    found = {"uid": os.getuid(), "groups": os.getgroups(), "gid": os.getgid(), "readable": [], "folder": __file__}
    for path in (f"/proc/{os.getppid()}/environ", "/etc/shadow", f"/proc/{os.getpid()}/../1/environ"):
        try:
            open(path).close()
            found["readable"].append(path)
        except OSError:
            pass
    try:
        os.setuid(0)
        found["root again"] = True
    except OSError:
        found["root again"] = False
    return json.dumps(found)
def make_files():
    import time
    for number in range(600):
        os.mknod(f"/tmp/{number}")
    time.sleep(30)
'''
folder = Path(tempfile.mkdtemp()) / "submission"
folder.mkdir()
folder.chmod(0o700)
(folder / "common.py").write_text(SOURCE)
level, warning = choose_level(sys.argv[1])
request = {"folder": str(folder), "modules": ["common"], "replaced": [], "forbidden": [], "probe": "call"}
with Worker(level, folder, warning) as worker:
    outcome = worker.run({**request, "inputs": {"function": "f", "arguments": {}}}, Limits(seconds=60))
    files = worker.run(
        {**request, "inputs": {"function": "make_files", "arguments": {}}}, Limits(seconds=20, files=500)
    ) if level == "bubblewrap" else None
found = {"warning": warning, "grader": os.getuid(), "status": outcome.status, "value": outcome.value}
found["files"] = files and files.message
print(json.dumps(found | {"message": outcome.message}))
"""
ATTACKS = """
import json, sys
from autograder.isolation import choose_level
from tools.hostile import load_fixtures
from tools.verify_security import verify
level, _ = choose_level("uid")
pairs = verify([fixture for fixture in load_fixtures() if fixture.name in sys.argv[1:]], level, jobs=1)
runs = {f"{pair.name} {kind}": run.leaks + run.problems + [f"gained {run.gained}"] * bool(run.gained)
        + [f"lost {run.lost}"] * bool(run.lost)
        for pair in pairs for kind, run in (("hostile", pair.hostile), ("twin", pair.twin))}
print(json.dumps({"level": level, "runs": runs}))
"""


@pytest.fixture(scope="module")
def run_reachable(tmp_path_factory):
    """Function (code, arguments, user) -> what it printed as JSON, where every user can reach the interpreter."""

    def run(code, *arguments, user=None):
        command = [sys.executable, "-c", code, *arguments]
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        closed = [path for path in reversed(Path(mounts.interpreter()).parents) if not path.stat().st_mode & 0o001]
        if closed:
            aside = tmp_path_factory.mktemp("closed")
            first = Path(mounts.interpreter()).relative_to(closed[0]).parts[0]
            script = f"""set -e
                mount --bind {closed[0]} {aside}
                mount -t tmpfs -o mode=755 none {closed[0]}
                mkdir {closed[0]}/{first}
                mount --bind {aside}/{first} {closed[0]}/{first}
                exec "$@" """
            command = [
                shutil.which("unshare"),
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
                *command,
            ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/tmp"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def found(run_reachable):
    return run_reachable(LOOK_AROUND, "uid")


def test_submission_runs_as_a_user_who_owns_nothing(found):
    assert found["status"] == "ok", found
    inside = json.loads(found["value"])
    assert inside["uid"] == inside["gid"] != 0
    assert inside["groups"] == []
    assert inside["readable"] == []
    assert inside["root again"] is False
    assert inside["folder"].startswith(f"{tempfile.gettempdir()}/kit-worker-")


def test_ordinary_user_can_grade_in_bubblewrap(run_reachable):
    found = run_reachable(LOOK_AROUND, "bubblewrap", user=61001)
    assert (found["grader"], found["warning"], found["status"]) == (61001, "", "ok")
    inside = json.loads(found["value"])
    assert (inside["uid"], inside["groups"], inside["root again"]) == (65534, [], False)
    assert inside["folder"] == "/submission/common.py"
    assert found["files"] == "made more than 500 files"


def test_solutions_that_everybody_can_read_are_a_warning(found):
    open_to_all = all(parent.stat().st_mode & 0o001 for parent in (ROOT, *ROOT.parents))
    assert ("every user of this machine can read solutions" in found["warning"]) == open_to_all


def test_attacks_that_this_level_stops_are_stopped(run_reachable):
    found = run_reachable(ATTACKS, "04-look-at-the-grader", "04-trace-the-zygote", "21-processes", "22-daemon")
    assert found["level"] == "uid"
    assert len(found["runs"]) == 8
    assert {name: faults for name, faults in found["runs"].items() if faults} == {}
