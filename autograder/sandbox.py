"""Runs probes of a submission in a worker process, and takes from it nothing but tensors.

Nothing here imports torch before the first probe: a worker imports it at the same time as the grader does.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from autograder import turns
from autograder.conversation import Conversation, Outcome
from autograder.errors import KitError
from autograder.isolation import level_class
from autograder.limits import Limits, Watchdog

__all__ = ["Limits", "Outcome", "Worker"]

_START_SECONDS = 120  # a cold disk can take this long to read torch
_DISTURBANCES = 3  # so often a submission may run alone in vain: the others wait for it
_END_SECONDS = 5  # for the zygote to say that a probe is gone


class Worker:
    """A worker process, started again when a submission has destroyed it. Use it as a context manager.

    At `process` one worker serves any number of submissions. At the other levels it sees one folder alone, and a
    request for another folder starts a new one.

    Args:
        isolation: a level that can be had here; see `autograder.isolation.choose_level`.
        folder: of the submission, when it is known: then the worker's imports overlap with the caller's.
        warning: what was said when the level was chosen, for the results.
    """

    def __init__(self, isolation: str = "process", folder: Path | None = None, warning: str = ""):
        self.isolation = isolation
        self.isolation_warning = warning
        self._level_class = level_class(isolation)
        self._level = None
        self._place: str | None = None
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._watchdog: Watchdog | None = None
        self._folder: str | None = None
        self.allow(Limits().submission_seconds)
        self._has_run = False
        if folder is not None or isolation == "process":
            self._start(None if folder is None else str(folder))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Kill the worker and everything it started."""
        self._stop()

    def allow(self, seconds: float) -> None:
        """Give the submission that is served now this much time from now on, whatever it has used.

        Args:
            seconds: wall clock; twice that of computing.
        """
        self._allowed, self._left, self._left_cpu = seconds, seconds, 2 * seconds
        self._disturbances = _DISTURBANCES

    def run(
        self,
        request: dict,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        answer: Callable[[str, list, dict], object] | None = None,
    ) -> Outcome:
        """Run one probe.

        Args:
            request: the body of the request frame: folder, modules, replaced, forbidden, probe, inputs.
            limits: of this probe.
            answer: function (symbol, args, kwargs) -> value for calls of functions that belong to other tasks.

        Returns:
            The outcome; this method does not raise for anything that a submission does.

        Raises:
            KitError: no worker can be started at all.
        """
        if request["folder"] != self._folder:
            self._change_folder(request["folder"], limits)
        if self._left <= 0 or self._left_cpu <= 0:
            return Outcome("timeout", message=f"the submission has used its {self._allowed:g} s")
        with turns.beside_others():
            outcome = self._attempt(request, limits, answer)
        if outcome.status != "ok" and self._may_run_again(limits):
            with turns.alone():  # what it gets now, counts
                outcome = self._attempt(request, limits, answer)
            self._disturbances -= outcome.status != "ok"
        self._left -= outcome.seconds
        return outcome

    def _may_run_again(self, limits: Limits) -> bool:
        """Whether others had the memory or the processors that the probe needed, and there is time to repeat it."""
        is_time = limits.spare_seconds > limits.grace_seconds + 2 * turns.PATIENCE_SECONDS
        return is_time and self._disturbances > 0 and self._watchdog is not None and self._watchdog.was_disturbed

    def _attempt(self, request: dict, limits: Limits, answer) -> Outcome:
        started = time.monotonic()
        try:
            outcome = self._converse(request, limits.at_most(self._left), answer)
            if outcome is None:  # the worker was gone before the probe began: that is nothing that this probe did
                outcome = self._converse(request, limits.at_most(self._left), answer)
            outcome = outcome or Outcome("died", message="the worker ended before the probe began")
        except KitError as error:
            if not self._has_run:
                raise
            # It could be started before this submission ran: so this is the submission's doing, and costs no results.
            outcome = Outcome("died", message=f"the worker could not be started again ({error})")
        outcome.seconds = time.monotonic() - started
        return outcome

    def _change_folder(self, folder: str, limits: Limits) -> None:
        if self._level is not None and self._level.inside(folder) != folder:
            self._stop()  # it sees the folder that it was started with
        self._folder = folder
        self.allow(limits.submission_seconds)

    def _start(self, folder: str | None) -> None:
        self._folder = folder
        self._place = tempfile.mkdtemp(prefix="kit-worker-")
        self._level = self._level_class(Path(self._place))
        self._level.lay_out(None if folder is None else Path(folder))
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            self._level.command(self._level.worker_arguments(theirs.fileno())),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            cwd=self._place,
            env=self._level.environment(),
            start_new_session=True,
        )
        theirs.close()
        self._watchdog = None

    def _stop(self) -> None:
        if self._process is not None:
            self._control.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stderr.close()
            self._process = None
            if not self._level.clear():
                self.isolation_warning = "processes of a submission could not be ended; they run on"
        if self._place is not None:
            # Not shutil.rmtree: a probe can nest folders more deeply than Python can follow.
            subprocess.run(["rm", "-rf", "--", self._place], capture_output=True)
            self._place = self._level = None

    def _await_ready(self) -> None:
        if self._process is None:
            self._start(self._folder)
        if self._watchdog is not None:
            return
        self._control.settimeout(_START_SECONDS)
        message = b""
        with contextlib.suppress(OSError):
            message = self._control.recv(1 << 16)
        if not message:
            self._process.kill()
            reason = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            self._stop()
            raise KitError(f"the worker did not start: {reason[-1] if reason else 'it ended at once'}")
        if not json.loads(message)["restricts"] and self.isolation != "process" and not self.isolation_warning:
            self.isolation_warning = "this kernel cannot take system calls away from a submission (seccomp)"
        self._watchdog = Watchdog(self._process.pid, self._level.memory_folders)
        self._has_run = True

    def _converse(self, request: dict, limits: Limits, answer) -> Outcome | None:
        """Run one probe; None when it never began."""
        self._await_ready()
        order = {"op": "probe", **limits.for_worker(self._level.counts_processes)}
        with contextlib.ExitStack() as stack:
            ours, theirs = map(stack.enter_context, socket.socketpair())
            output, output_theirs = os.pipe()
            stack.callback(os.close, output)
            with contextlib.ExitStack() as handed_over:
                handed_over.callback(theirs.close)
                handed_over.callback(os.close, output_theirs)
                try:
                    socket.send_fds(self._control, [json.dumps(order).encode()], [theirs.fileno(), output_theirs])
                except OSError:
                    self._stop()
                    return None
            request = {**request, "folder": self._level.inside(request["folder"])}
            conversation = Conversation(ours, output, request, limits, answer, self._watchdog)
            self._watchdog.begin()
            conversation.run()
            status = self._end_probe(kill=not conversation.answered)
            return conversation.outcome(status) if self._process is not None or conversation.heard else None

    def _end_probe(self, kill: bool) -> int | None:
        """Wait until the probe's process is gone; kill it first if it must end.

        Returns:
            Its wait status, or None when the worker is gone as well: then the next probe gets a new one.
        """
        try:
            ended = None
            if not kill:
                with contextlib.suppress(TimeoutError):  # it answered and does not end
                    ended = self._receive(0.5)
            if ended is None:
                self._control.send(b'{"op": "kill"}')
                ended = self._receive(_END_SECONDS)
            status, cpu, clean = int(ended["status"]), float(ended["cpu"]), ended["clean"] is True
        except (OSError, ValueError, TypeError, KeyError):
            self._stop()
            return None
        self._left_cpu -= max(cpu, self._watchdog.cpu_seconds)
        if not clean:
            self._stop()
        return status

    def _receive(self, seconds: float) -> dict:
        self._control.settimeout(seconds)
        message = self._control.recv(1 << 16)
        if not message:
            raise ConnectionError
        return json.loads(message)
