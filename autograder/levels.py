"""The three levels of isolation: how each starts a worker, and what the worker sees.

bubblewrap   own user, processes, network, IPC, host name and file system (Linux namespaces)
uid          another user and its own processes; for root in a container where namespaces are refused
process      limits, a clean environment and fewer system calls; solutions, results and the grader's own descriptors are
             within reach of a submission, so it is for code that you trust
"""

import contextlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from autograder import mounts
from autograder.tasks import ROOT, default_table_path

_TRIAL_SECONDS = 30
_KILLS = 5
# Where everybody may write; the worker's own folders are removed in any case.
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")
_USERS = (61184, 65519)  # left free for users that exist only while a program runs (systemd's DynamicUser)


class Process:
    """Limits, a clean environment, a process group: all that a system offers to everybody."""

    name = "process"
    counts_processes = False  # the kernel counts all processes of this user together
    memory_folders: tuple[str, ...] = ()  # where a worker writes into memory, if it has a network of its own as well

    def __init__(self, place: Path):
        self.place = place
        self.user: int | None = None
        self.home = str(place / "home")

    def lay_out(self, folder: Path | None) -> None:
        """Prepare the place for one submission. Here it is read where it lies."""
        Path(self.home).mkdir()

    def inside(self, folder: str) -> str:
        """Return where a worker sees the submission's folder."""
        return folder

    def scratch(self) -> list[str]:
        """Return the folders that a probe may write to, as a worker sees them."""
        return [self.home]

    def command(self, arguments: list[str]) -> list[str]:
        """Return the command that runs Python with some arguments at this level."""
        return [sys.executable, "-I", "-S", *arguments]

    def worker_arguments(self, control: int) -> list[str]:
        """Return Python's arguments for a worker, with the descriptor of its control socket."""
        config = {"packages": mounts.package_folders(), "root": self._root(), "control": control}
        config |= {"scratch": self.scratch(), "user": self.user}
        return ["-u", f"{self._worker()}/__main__.py", json.dumps(config)]

    def environment(self) -> dict[str, str]:
        """The same few variables on every machine: nothing of the grader's environment reaches a submission."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": self.scratch()[0],
            "TMPDIR": self.scratch()[0],
            "USER": "student",
            "LOGNAME": "student",
            "LANG": "C.UTF-8",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def clear(self) -> bool:
        """End what may have outlived the worker; False when something of it still runs."""
        return True

    def missing(self) -> str:
        """Return why this level cannot be had here; empty when it can."""
        return ""

    def weakness(self) -> str:
        """Return what this level leaves open here that it could close; empty when nothing."""
        return ""

    def _root(self) -> str:
        return str(ROOT)

    def _worker(self) -> str:
        return str(ROOT / "autograder" / "worker")

    def _try(self) -> str:
        """Start an interpreter that reads what a worker needs; return what goes wrong."""
        self.lay_out(None)
        needed = [f"{self._worker()}/__main__.py", f"{self._root()}/helpers/__init__.py"]
        needed += [importlib.util.find_spec("torch").origin]
        become = f"import os; os.setgroups([]); os.setgid({self.user}); os.setuid({self.user})" if self.user else "pass"
        code = f"{become}\nfor path in {needed!r}:\n open(path).close()\nimport ctypes"
        command = self.command(["-c", code])
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=self.environment(),
                timeout=_TRIAL_SECONDS,
                text=True,
                errors="replace",
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it ended at once"])[-1]


class OtherUser(Process):
    """As `Process`, but as a user who owns nothing; what a worker reads is copied to where that user can read it."""

    name = "uid"
    counts_processes = True

    def __init__(self, place: Path):
        super().__init__(place)
        self.user = _unused_user()

    def lay_out(self, folder: Path | None) -> None:
        """Copy worker, helpers and submission."""
        self.place.chmod(0o711)
        super().lay_out(folder)
        os.chown(self.home, self.user, self.user)
        (self.place / "kit").mkdir()
        copy_readable(ROOT / "autograder" / "worker", self.place / "kit" / "worker")
        copy_readable(ROOT / "helpers", self.place / "kit" / "helpers")
        if folder is not None:
            copy_readable(folder, self.place / "submission")

    def inside(self, folder: str) -> str:
        """Return the copy."""
        return str(self.place / "submission")

    def command(self, arguments: list[str]) -> list[str]:
        """Return the plain interpreter's command: the worker becomes the other user by itself."""
        return [mounts.interpreter(), "-I", "-S", *arguments]

    def clear(self) -> bool:
        """Kill everything that runs as this worker's user, and remove what it left where everybody may write."""
        # One signal to all processes of that user at once: counting them one by one, a fork bomb would win.
        code = f"import os; os.setgroups([]); os.setgid({self.user}); os.setuid({self.user}); os.kill(-1, 9)"
        for _ in range(_KILLS):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # so busy is the machine: look, and try again
                killer = [mounts.interpreter(), "-I", "-S", "-c", code]
                subprocess.run(killer, capture_output=True, timeout=_TRIAL_SECONDS)
            alive = _runs_as(self.user)
            if not alive:
                break
        remove_files_of(self.user, [folder for folder in _SHARED if os.path.isdir(folder)])
        return not alive

    def missing(self) -> str:
        """It needs root, and an interpreter that others may read."""
        if sys.platform != "linux" or os.geteuid() != 0:
            return "only root can start a worker as another user"
        problem = self._try()
        return problem and f"another user cannot run {mounts.interpreter()} ({problem})"

    def weakness(self) -> str:
        """Solutions and hidden references are protected by the permissions of their folders alone."""
        secret = (
            default_table_path().parent,
            ROOT / "autograder" / "reference" / "hidden",
            ROOT / "autograder" / "oracle",
        )
        open_to_all = [path for path in secret if path.is_dir() and _others_can_read(path)]
        if not open_to_all:
            return ""
        names = ", ".join(str(path.relative_to(ROOT)) for path in open_to_all)
        return f"every user of this machine can read {names}; close them with: chmod o-rwx {ROOT}"

    def _root(self) -> str:
        return str(self.place / "kit")

    def _worker(self) -> str:
        return str(self.place / "kit" / "worker")


class Bubblewrap(Process):
    """Namespaces: the worker sees what `mounts` lists, no network, and no process but its own."""

    name = "bubblewrap"
    counts_processes = True
    memory_folders = mounts.SCRATCH

    def __init__(self, place: Path):
        super().__init__(place)
        if os.geteuid() == 0:
            self.user = _unused_user()

    def lay_out(self, folder: Path | None) -> None:
        """Copy the submission, so that whatever its permissions were, the worker's user can read it."""
        if folder is None:
            (self.place / "submission").mkdir()
        else:
            copy_readable(folder, self.place / "submission")

    def inside(self, folder: str) -> str:
        """Return the one place where it is mounted."""
        return mounts.SUBMISSION

    def scratch(self) -> list[str]:
        """Return the folders in memory, limited in size."""
        return list(mounts.SCRATCH)

    def command(self, arguments: list[str]) -> list[str]:
        """Return bubblewrap's command: new namespaces, no rights, nothing of the host that is not listed."""
        options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        options += ["--hostname", "worker", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        if self.user is None:
            start = ["bwrap", "--unshare-user", "--uid", "65534", "--gid", "65534"]
        else:
            enter = str(ROOT / "autograder" / "user_namespace.py")
            start = [mounts.interpreter(), "-I", "-S", enter, str(self.user), "bwrap"]
            options += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # given up with the user, at once
        layout = mounts.mount_arguments(str(self.place / "submission"))
        return [*start, *options, *layout, "--", mounts.interpreter(), "-I", "-S", *arguments]

    def missing(self) -> str:
        """It needs bubblewrap and permission to make namespaces."""
        if sys.platform != "linux":
            return "it needs Linux"
        if shutil.which("bwrap") is None:
            return "it is not installed (on Debian and Ubuntu: apt-get install bubblewrap)"
        return self._try()

    def _root(self) -> str:
        return mounts.KIT

    def _worker(self) -> str:
        return f"{mounts.KIT}/worker"


def copy_readable(source: Path, target: Path) -> None:
    """Copy a folder's files so that every user can read them, whatever the originals allow. Links are left out."""
    target.mkdir()
    target.chmod(0o755)
    for path in source.iterdir():
        if path.is_symlink() or path.name == "__pycache__":
            continue
        if path.is_dir():
            copy_readable(path, target / path.name)
        elif path.is_file():
            shutil.copyfile(path, target / path.name)
            (target / path.name).chmod(0o644)


def remove_files_of(user: int, folders: list[str]) -> None:
    """Remove the files and folders of a user that lie directly in some folders. No link is followed."""
    only = ["-mindepth", "1", "-maxdepth", "1", "-uid", str(user)]
    subprocess.run(["find", *folders, *only, "-exec", "rm", "-rf", "--", "{}", "+"], capture_output=True)


def _unused_user() -> int:
    """Return a user id that no process runs as: two workers on one machine must not be the same user."""
    taken = {process.info["uids"].real for process in psutil.process_iter(["uids"]) if process.info["uids"]}
    return random.SystemRandom().choice([user for user in range(*_USERS) if user not in taken])


def _runs_as(user: int) -> bool:
    """Whether any process is a user's; those that have ended and that nobody has asked about do not count."""
    return any(
        process.info["uids"] and process.info["uids"].real == user and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["uids", "status"])
    )


def _others_can_read(folder: Path) -> bool:
    """Whether a user without rights of his own can list a folder: open itself, and every folder around it."""
    return bool(folder.stat().st_mode & 0o004) and all(parent.stat().st_mode & 0o001 for parent in folder.parents)
