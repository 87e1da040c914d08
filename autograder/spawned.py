"""A worker for systems where a process cannot be forked safely (Windows, macOS): a fresh interpreter for each check.

It has the interface of `autograder.sandbox.Worker` and speaks the same frames, over the interpreter's stdin and stdout.
It keeps a student's mistakes away from the notebook; it is no protection against a submission that means harm.
"""

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable

from autograder import mounts
from autograder.conversation import Conversation, Outcome
from autograder.errors import KitError
from autograder.limits import Limits, Watchdog
from autograder.tasks import ROOT

_START_SECONDS = 180  # antivirus programs read every file of torch before they let it be imported
_ENTRY = ROOT / "autograder" / "worker" / "spawned.py"


class Interpreter:
    """One Python process that answers probes, read by threads: pipes of Windows know no `select`."""

    def __init__(self):
        # On Windows a killed process may hold its working directory for a moment longer.
        self._place = tempfile.TemporaryDirectory(prefix="kit-worker-", ignore_cleanup_errors=True)
        config = {"packages": mounts.package_folders(), "root": str(ROOT)}
        self._process = subprocess.Popen(
            [mounts.interpreter(), "-I", "-S", "-B", "-u", str(_ENTRY), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._place.name,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""},
            # "Interrupt kernel" is meant for the notebook alone; and Windows opens no console window.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
            | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self.pid = self._process.pid
        self.received: queue.Queue[bytes] = queue.Queue()  # an empty piece says that no more will come
        self.printed: queue.Queue[bytes] = queue.Queue(maxsize=256)
        for pipe, pieces in ((self._process.stdout, self.received), (self._process.stderr, self.printed)):
            threading.Thread(target=_forward, args=(pipe, pieces), daemon=True).start()

    def await_ready(self) -> None:
        """Wait until torch is imported there; `KitError` with the reason when it cannot be."""
        try:
            first = self.received.get(timeout=_START_SECONDS)
        except queue.Empty:
            first = b""
        if first != b"ready\n":
            self.status()  # it is given the time to say why
            self.end()
            lines = b"".join(_until_its_end(self.printed)).decode(errors="replace").strip().splitlines()
            raise KitError(f"the worker did not start: {lines[-1] if lines else 'it ended at once'}")

    def send(self, data: bytes) -> None:
        """Write to its stdin; `OSError` when it has ended."""
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def status(self) -> int | None:
        """Return the status with which it ended by itself, if it did; it is given a moment for that."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(0.5)
        return None

    def end(self) -> None:
        """Kill it; it may have ended before."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # what was still to be written
            self._process.stdin.close()
        self._place.cleanup()


class SpawnedConversation(Conversation):
    """The conversation of one probe over pipes: the same frames and verdicts, with threads in place of `select`."""

    def __init__(self, interpreter: Interpreter, request: dict, limits: Limits, answer, watchdog: Watchdog):
        super().__init__(None, -1, request, limits, answer, watchdog)
        self._interpreter = interpreter

    def run(self) -> None:
        """Talk until the probe answers, ends, breaks the format or passes a limit."""
        times = {"seconds": self._limits.seconds, "import_seconds": self._limits.import_seconds}
        self._to_send[:0] = json.dumps(times).encode() + b"\n"
        deadline = time.monotonic() + self._limits.grace_seconds
        while not (self.answered or self._failure or self._closed):
            try:
                if self._to_send:
                    self._send()
                elif (frame := self._reader.next()) is not None:
                    self._take(frame)
                elif time.monotonic() >= deadline:
                    self._failure = "timeout", f"stopped after {self._limits.seconds:g} s"
                else:
                    self._receive()
            except self._frames.FrameError as error:
                self._failure = "protocol", f"sent something that is not an answer ({error})"
            except OSError:  # the probe's end is gone
                self._closed = True

    def _send(self) -> None:
        # A probe that listens to nobody blocks the pipe: the timer ends it, and with it this write.
        timer = threading.Timer(self._limits.grace_seconds, self._interpreter.end)
        timer.start()
        try:
            self._interpreter.send(bytes(self._to_send))
        finally:
            timer.cancel()
        self._to_send.clear()

    def _receive(self) -> None:
        try:
            data = self._interpreter.received.get(timeout=Watchdog.tick_seconds)
        except queue.Empty:
            self._failure = self._watchdog.check(self._limits)
            return
        self._closed = not data
        self._reader.feed(data)

    def _read_output(self) -> bool:
        """Take what the probe has printed by now."""
        for data in _drain(self._interpreter.printed):
            room = max(0, self._limits.output_bytes - len(self._printed))
            self._printed += data[:room]
            self._dropped += len(data) - len(data[:room])
        return False


class Spawned:
    """Runs the probes of each check and task in an interpreter of their own, and starts the next one in advance.

    A check reads its own copy of the student's files, so a new check always means a new interpreter, and an edit of any
    file counts. An interpreter that did not answer is killed.
    """

    isolation = "spawned"
    isolation_warning = ""

    def __init__(self):
        self._serving: tuple | None = None
        self._interpreter: Interpreter | None = None
        self._watchdog: Watchdog | None = None
        self._spare: Interpreter | None = Interpreter()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """End both interpreters."""
        self._end()
        if self._spare is not None:
            self._spare.end()
            self._spare = None

    def run(
        self,
        request: dict,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        answer: Callable[[str, list, dict], object] | None = None,
    ) -> Outcome:
        """Run one probe; see `autograder.sandbox.Worker.run`."""
        started = time.monotonic()
        # What one task has loaded, replaced and forbidden must not be there for another.
        serving = (request["folder"], *(tuple(request[name]) for name in ("modules", "replaced", "forbidden")))
        if serving != self._serving or self._interpreter is None:
            self._end()
            self._interpreter, self._spare = self._spare or Interpreter(), None
            self._interpreter.await_ready()
            self._watchdog = Watchdog(self._interpreter.pid)
            self._spare, self._serving = Interpreter(), serving
        conversation = SpawnedConversation(self._interpreter, request, limits, answer, self._watchdog)
        conversation.run()
        status = None if conversation.answered else self._interpreter.status()
        outcome = conversation.outcome(_wait_status(status))
        if not conversation.answered:
            self._end()
        outcome.seconds = time.monotonic() - started
        return outcome

    def _end(self) -> None:
        if self._interpreter is not None:
            self._interpreter.end()
            self._interpreter = None


def _wait_status(status: int | None) -> int | None:
    """The wait status of a process that a signal ended, on systems with signals; else None."""
    return -status if status is not None and status < 0 and hasattr(os, "WIFSIGNALED") else None


def _forward(pipe, pieces: queue.Queue) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := pipe.read1(1 << 16):
            pieces.put(data)
    pieces.put(b"")
    pipe.close()


def _until_its_end(pieces: queue.Queue):
    """Wait for what has been written and not yet read."""
    with contextlib.suppress(queue.Empty):
        while data := pieces.get(timeout=1):
            yield data


def _drain(pieces: queue.Queue):
    while True:
        try:
            yield pieces.get_nowait()
        except queue.Empty:
            return
