"""The zygote imports torch once and forks a fresh process for every probe.

Control messages (one datagram each, JSON) between the trusted side and the zygote:
    zygote -> trusted   {"ready": true, "restricts": whether system calls can be taken away} once
    trusted -> zygote   {"op": "probe", "limits": {...}, "seconds": s, "import_seconds": s} with two descriptors: the
                        probe's channel and its output; {"op": "kill"} while it runs
    zygote -> trusted   {"status": wait status, "cpu": seconds, "clean": whether nothing is left of the probe}
The frames of a probe travel on its own channel; the zygote never sees them, and a probe never sees the control socket.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import torch
import torchvision.models.feature_extraction
import torchvision.ops

from .child import run_probe
from .limits import apply_limits
from .models import offline_models
from .syscalls import can_restrict, restrict_calls

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36


def serve(control_fd: int, scratch: list[str]) -> None:
    """Answer probe requests until the trusted side closes the control socket.

    Args:
        control_fd: the zygote's end of the control socket.
        scratch: folders that a probe may write to; emptied after each.
    """
    control = socket.socket(fileno=control_fd)
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no worker outlives its grader; while it serves, see `_wait`
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # daemons that a submission leaves behind become our children
        libc.prctl(_PR_SET_DUMPABLE, 0)  # a probe can neither trace this process nor read its memory
    torch.set_num_threads(1)
    _warm_up()
    for folder in scratch:
        _empty(folder, _ways_to_mounts())  # torch makes folders of its own, and every probe is to find the same
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, 0)  # from now on it reads that the grader is gone, and first ends the probe
    control.send(json.dumps({"ready": True, "restricts": can_restrict()}).encode())
    with offline_models():
        _serve_probes(control, scratch)


def _warm_up() -> None:
    """Pay once for what every probe of a network would pay: tracing a backbone, a first convolution, on one thread."""
    network = torchvision.models.regnet_x_400mf(weights=None)
    extractor = torchvision.models.feature_extraction.create_feature_extractor(network, ["trunk_output.block2"])
    with torch.no_grad():
        extractor.eval()(torch.zeros(1, 3, 32, 32))


def _serve_probes(control: socket.socket, scratch: list[str]) -> None:
    kept = _ways_to_mounts()
    modes = {folder: stat.S_IMODE(os.stat(folder).st_mode) for folder in scratch}
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1 << 16, 2)
        if not message:
            return
        request = json.loads(message)
        if request["op"] != "probe":
            continue  # a late "kill" for a probe that has just ended
        guarded, zygote = [os.getppid(), *_own_threads()], os.getpid()
        used = _cpu_of_children()
        pid = os.fork()
        if pid == 0:
            control.close()
            _end_with(zygote)
            _enter_probe(*fds, request, guarded)
        for fd in fds:
            os.close(fd)
        status = _wait(pid, control)
        clean = _reap_all() and all(_clear(folder, mode, kept) for folder, mode in modes.items())
        control.send(json.dumps({"status": status, "cpu": _cpu_of_children() - used, "clean": clean}).encode())


def _end_with(parent: int) -> None:
    """Let the kernel end this process when its parent is gone, however that ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it is gone already
            os._exit(1)


def _enter_probe(channel_fd: int, output_fd: int, request: dict, guarded: list[int]) -> None:
    """In the fork: give up what the zygote has, accept the limits, run the probe, and end."""
    code = 1
    try:
        os.setsid()  # a process group of its own
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output_fd, 1), (output_fd, 2)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(output_fd)
        apply_limits(request["limits"])
        if can_restrict():
            restrict_calls(guarded)
        run_probe(socket.socket(fileno=channel_fd), request["seconds"], request["import_seconds"])
        code = 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                code = code or 1
        os._exit(code)


def _own_threads() -> list[int]:
    try:
        return [int(thread) for thread in os.listdir("/proc/self/task")]
    except OSError:
        return [os.getpid()]


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _wait(pid: int, control: socket.socket) -> int:
    """Return the wait status of the probe; kill it when the trusted side asks or goes away."""
    try:
        ended = os.pidfd_open(pid)
    except (AttributeError, OSError):
        ended = None  # an old kernel: look every few milliseconds instead
    watched = [control] if ended is None else [control, ended]
    try:
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status
            ready, _, _ = select.select(watched, [], [], 0.005 if ended is None else 60)
            if control in ready:
                os.kill(pid, signal.SIGKILL)
                if not control.recv(1 << 16):
                    _reap_all()
                    os._exit(0)
    finally:
        if ended is not None:
            os.close(ended)


def _reap_all(seconds: float = 2.0) -> bool:
    """Kill and collect everything that a probe left behind; False when some process could not be caught in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as children:
                pids = [int(pid) for pid in children.read().split()]
        except OSError:
            pids = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        time.sleep(0.001)
    return False


def _ways_to_mounts() -> set[str]:
    """Every mount point and the folders above it: the interpreter or the kit may be mounted below a scratch folder."""
    try:
        with open("/proc/self/mountinfo") as mounts:
            points = [Path(line.split()[4]) for line in mounts]
    except OSError:
        return set()
    return {str(folder) for point in points for folder in (point, *point.parents)}


def _clear(folder: str, mode: int, kept: set[str]) -> bool:
    """Take from a scratch folder what a probe wrote into it and, where it is the owner, on it."""
    try:
        owned = os.stat(folder).st_uid == os.geteuid()
        if owned:
            os.chmod(folder, mode)
            for name in os.listxattr(folder) if hasattr(os, "listxattr") else ():
                if name.startswith(("user.", "system.posix_acl")):
                    os.removexattr(folder, name)
        emptied = _empty(folder, kept)
        if owned:
            os.utime(folder, (0, 0))
        return emptied
    except OSError:
        return False


def _empty(folder: str, kept: set[str]) -> bool:
    """Remove what a probe wrote; False when something resists, and then the whole worker has to go."""
    try:
        for entry in list(os.scandir(folder)):
            if entry.path in kept:
                if not os.path.ismount(entry.path) and not _empty(entry.path, kept):
                    return False
            elif entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    except (OSError, RecursionError):
        return False
    return True
