"""What a submission sees of the world at each level."""

import json
import os

import psutil
import pytest

from autograder.limits import Limits
from autograder.sandbox import Worker
from autograder.tasks import ROOT

LONG = Limits(seconds=60)
LIBRARIES = ("KMP_", "OMP_", "MKL_", "TORCH", "PYTORCH", "CUDA")

LOOK_AROUND = """
import json, os, socket, sys

def links():
    return {name: os.readlink("/proc/self/ns/" + name) for name in ("user", "pid", "net", "ipc", "uts", "mnt")}

def mounts():
    return [line.split()[:4] for line in open("/proc/mounts")]

def f():
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return json.dumps({
        "namespaces": links(),
        "mounts": mounts(),
        "environment": dict(os.environ),
        "arguments": sys.argv,
        "pids": [int(name) for name in os.listdir("/proc") if name.isdigit()],
        "capabilities": status["CapEff"].strip(),
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "filter": status["Seccomp"].strip(),
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "host": socket.gethostname(),
        "folders": {path: sorted(os.listdir(path)) for path in ("/", "/kit", "/submission") if os.path.isdir(path)},
        "file": __file__,
    })
"""


@pytest.fixture
def inside(call):
    """What a submission sees at level bubblewrap."""
    outcome = call(LOOK_AROUND, "bubblewrap", LONG)
    assert outcome.status == "ok", outcome
    return json.loads(outcome.value)


@pytest.mark.parametrize("name", ["user", "pid", "net", "ipc", "uts", "mnt"])
def test_bubblewrap_has_its_own_namespace(inside, name):
    assert inside["namespaces"][name] != os.readlink(f"/proc/self/ns/{name}")


def test_bubblewrap_shows_its_own_processes_only(inside):
    # bubblewrap itself, the zygote, the probe
    assert len(inside["pids"]) <= 4


def test_bubblewrap_gives_no_rights(inside):
    assert int(inside["capabilities"], 16) == 0
    assert inside["no_new_privileges"] == "1"
    assert inside["filter"] == "2"  # system calls are filtered
    assert inside["uid"] != 0


def test_bubblewrap_shows_kit_and_submission_and_nothing_else_of_ours(inside):
    assert inside["folders"]["/kit"] == ["helpers", "worker"]
    assert inside["folders"]["/submission"] == ["common.py"]
    assert inside["file"] == "/submission/common.py"
    assert not {"home", "srv", "mnt", "media", "opt", "var", "run", "boot"} & set(inside["folders"]["/"])


def test_bubblewrap_mounts_everything_read_only_but_small_memory(inside):
    writable = {target: kind for _, target, kind, options in inside["mounts"] if "rw" in options.split(",")}
    devices = {target for target in writable if target.startswith("/dev/") and target != "/dev/shm"}
    assert set(writable) - devices == {"/proc", "/tmp", "/dev/shm"}
    sizes = {target: options for _, target, _, options in inside["mounts"] if target in ("/tmp", "/dev/shm")}
    assert all("size=" in options for options in sizes.values())


def test_environment_holds_nothing_of_the_grader(inside):
    ours = {"PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "LANG", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE"}
    ours |= {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "MPLBACKEND", "CUDA_VISIBLE_DEVICES"}
    # PWD is bubblewrap's, LC_CTYPE is Python's; libraries set their own.
    extra = set(inside["environment"]) - ours
    assert {name for name in extra if name not in ("PWD", "LC_CTYPE") and not name.startswith(LIBRARIES)} == set()
    assert inside["arguments"] == ["worker"]
    assert inside["host"] == "worker"


@pytest.mark.at("bubblewrap")
@pytest.mark.parametrize("name", ["solutions", "autograder", "tests", ".git", "pyproject.toml"])
def test_repository_is_not_there(call, level, name):
    outcome = call(f"import os\ndef f():\n    return os.path.exists({str(ROOT / name)!r})", level, LONG)
    assert outcome.value is False


@pytest.mark.at("bubblewrap")
def test_files_of_another_submission_are_not_there(call, level, tmp_path):
    other = tmp_path / "other.py"
    other.write_text("x = 1")
    assert call(f"import os\ndef f():\n    return os.path.exists({str(other)!r})", level, LONG).value is False


@pytest.mark.at("bubblewrap")
@pytest.mark.parametrize(
    "path", ["/submission/common.py", "/submission/new", "/kit/worker/x.py", "/x", "/dev/x", "/proc/x"]
)
def test_nothing_can_be_written_outside_the_scratch_folders(call, level, path):
    source = f"def f():\n    try:\n        open({path!r}, 'a').close()\n    except OSError as e:\n        return True"
    assert call(source, level, LONG).value is True


def test_scratch_folder_is_empty_at_every_probe(call, level):
    source = """
import os, tempfile
def f():
    folder = tempfile.gettempdir()
    before = os.listdir(folder)
    os.makedirs(folder + "/a/b/c")
    open(folder + "/a/b/file", "w").close()
    os.chmod(folder + "/a/b", 0)
    return before
"""
    # Where the kit itself lies below the temporary folder, the way to it is there from the start.
    before = call(source, level, LONG).value
    assert "a" not in before
    assert call(source, level, LONG).value == before


@pytest.mark.at("process")  # where a probe owns its folder, as in bubblewrap without root
def test_scratch_folder_itself_remembers_nothing(call, level):
    source = """
import os, tempfile
def f():
    folder = tempfile.gettempdir()
    try:
        os.setxattr(folder, "user.answer", b"3")
    except OSError:
        pass  # not on every file system
    os.chmod(folder, 0o711)
    os.utime(folder, (4711, 4711))
"""
    look = """
import os, tempfile
def f():
    found = os.stat(tempfile.gettempdir())
    return [os.listxattr(tempfile.gettempdir()), found.st_mode, found.st_mtime]
"""
    call("def f():\n    return 7", level, LONG)
    before = call(look, level, LONG).value
    call(source, level, LONG)
    assert call(look, level, LONG).value == before


def test_helpers_can_be_imported_and_nothing_else_of_the_kit(call, level):
    source = """
import importlib
def f():
    found = []
    for name in ("helpers", "a4_helper", "eecs598", "autograder", "autograder.oracle", "tools", "tests"):
        try:
            importlib.import_module(name)
            found.append(name)
        except ImportError:
            pass
    return found
"""
    assert call(source, level, LONG).value == ["helpers", "a4_helper", "eecs598"]


PERSISTENT = {
    "System V memory": "libc.shmget(4711, 4096, 0o1600)",
    "System V queues": "libc.msgget(4711, 0o1600)",
    "System V semaphores": "libc.semget(4711, 1, 0o1600)",
    "keys of the kernel": "libc.syscall(248 if os.uname().machine == 'x86_64' else 217, b'user', b'k', b'v', 1, -4)",
    "files in memory": "libc.memfd_create(b'x', 0)",
    "user namespaces": "libc.unshare(0x10000000)",
    "tracing": "libc.ptrace(16, os.getppid(), None, None)",
    "the network": "libc.socket(2, 1, 0)",
    "datagrams": "libc.socket(1, 2, 0)",
    "pairs for datagrams": "libc.socketpair(1, 2 | 0o2000000, 0, (ctypes.c_int * 2)())",
    "longer queues of sockets": "libc.setsockopt(connection().fileno(), 1, 7, b'\\0\\0\\1\\0', 4)",
    "longer pipes": "libc.fcntl(os.pipe()[0], 1031, 1 << 18)",
    "pages in pipes": "libc.vmsplice(os.pipe()[1], b'x' * 16, 0, 0)",
    "the end with the zygote": "libc.prctl(1, 0, 0, 0, 0)",
    "a session": "libc.setsid() if os.fork() else os._exit(0)",
    "the owner of a pipe": "libc.fcntl(os.pipe()[0], 8, os.getpid())",
    "the owner of a pipe, by structure": "libc.fcntl(os.pipe()[0], 15, (ctypes.c_int * 2)(1, os.getpid()))",
    "the signal of a pipe": "libc.fcntl(os.pipe()[0], 10, 9)",
    "the owner of a socket": "libc.ioctl(connection().fileno(), 0x8901, (ctypes.c_int * 1)(os.getpid()))",
    "the group of a socket": "libc.ioctl(connection().fileno(), 0x8902, (ctypes.c_int * 1)(os.getpid()))",
    "kernel programs": "libc.syscall(321 if os.uname().machine == 'x86_64' else 280, 0, None, 0)",
}


@pytest.mark.parametrize("expression", PERSISTENT.values(), ids=PERSISTENT)
def test_system_calls_are_taken_away(call, level, expression):
    source = (
        "import ctypes, os, socket\nlibc = ctypes.CDLL(None, use_errno=True)\nkept = []\n"
        "def connection():\n    kept[:] = socket.socketpair()\n    return kept[0]\n"
        f"def f():\n    return {expression}"
    )
    assert call(source, level, LONG).value == -1


def test_worker_cannot_be_killed_as_the_owner_of_a_pipe(call, level):
    source = """
import fcntl, os, time
def f():
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(reader, fcntl.F_SETOWN, os.getppid())
        fcntl.fcntl(reader, 10, 9)
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    except PermissionError:
        return "refused"
    os.write(writer, b"x")
    time.sleep(1)
    return os.getppid()
"""
    assert call(source, level, LONG).value == "refused"


def test_kernel_ends_a_worker_before_the_grader(call, level):
    assert call("def f():\n    return open('/proc/self/oom_score_adj').read()", level, LONG).value == "1000\n"


def test_ordinary_programs_still_work(call, level):
    """Threads, processes, sockets between them, temporary files, signals to oneself."""
    source = """
import multiprocessing, os, signal, socket, tempfile, threading
import numpy, torch

def f():
    thread = threading.Thread(target=print)
    thread.start(), thread.join()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    left, right = socket.socketpair()
    left.send(b"x")
    assert right.recv(1) == b"x"
    with tempfile.NamedTemporaryFile() as file:
        torch.save(torch.ones(3), file.name)
        assert torch.load(file.name, weights_only=True).sum() == 3
    signal.signal(signal.SIGUSR1, lambda *_: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    loader = torch.utils.data.DataLoader(torch.arange(8), batch_size=4, num_workers=1)
    return [batch.sum().item() for batch in loader]
"""
    assert call(source, level, LONG).value == [6, 22]


def test_no_process_of_a_worker_survives_its_end(workers, obliging_submission):
    workers("bubblewrap")  # it can be had
    with Worker("bubblewrap", obliging_submission) as worker:
        worker._await_ready()
        family = psutil.Process(worker._process.pid).children(recursive=True)
        assert family
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
