"""Runs probes of a submission in a worker process, and takes from it nothing but tensors.

Nothing here imports torch before the first probe: a worker imports it at the same time as the grader does.
"""

import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import ROOT

WORKER = Path(__file__).resolve().parent / "worker" / "__main__.py"
_START_SECONDS = 120  # a cold disk can take this long to read torch


@dataclass(frozen=True)
class Limits:
    """What one probe may use.

    Attributes:
        seconds: wall clock, from outside.
        memory_gib: private memory on top of what the worker had.
        output_bytes: of stdout and stderr together; the rest is drained and dropped.
        file_bytes: size of one file that it writes.
        open_files: descriptors.
    """

    seconds: float = 20.0
    memory_gib: float = 4.0
    output_bytes: int = 64 << 10
    file_bytes: int = 64 << 20
    open_files: int = 256

    def for_worker(self) -> dict[str, int]:
        """Return the limits that the probe's process sets on itself before it loads the submission."""
        return {
            "RLIMIT_CPU": int(self.seconds * 2) + 2,
            "RLIMIT_DATA": int(self.memory_gib * 2**30),
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
        }


@dataclass
class Outcome:
    """What came of one probe.

    Attributes:
        status: "ok", or "error" (an exception in the submission), "timeout", "memory", "died" (a signal, or an exit without
            an answer), "protocol" (not a frame, or a value that cannot be graded).
        value: what the probe returned, when status is "ok".
        message: in words, for every other status.
        error_type: name of the exception, when there was one.
        where: "file:line" in the submission, or None.
        stage: "import" until the submission was loaded, then "run".
        output: what it printed, cut at the limit.
        seconds: wall clock of the whole probe.
    """

    status: str
    value: object = None
    message: str = ""
    error_type: str = ""
    where: str | None = None
    stage: str = "import"
    output: str = ""
    seconds: float = 0.0


@dataclass
class _Exchange:
    """State of one probe while its frames come in."""

    nonce: str
    stage: str = "import"
    result: dict | None = None
    output: bytearray = field(default_factory=bytearray)
    dropped: int = 0


class Worker:
    """A worker process with the level `process`: resource limits, a clean environment, a wall clock from outside.

    It starts in the constructor, so that its imports overlap with the caller's. Use it as a context manager.
    """

    isolation = "process"

    def __init__(self):
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._ready = False
        self._home = tempfile.TemporaryDirectory(prefix="kit-worker-")
        self._start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Kill the worker and everything it started."""
        self._stop()
        self._home.cleanup()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        packages = list(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")))
        config = {"packages": packages, "root": str(ROOT), "control": theirs.fileno()}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-u", str(WORKER), json.dumps(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            cwd=self._home.name,
            env=_clean_environment(self._home.name),
            start_new_session=True,
        )
        theirs.close()
        self._ready = False

    def _stop(self) -> None:
        if self._process is None:
            return
        self._control.close()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._process.stderr.close()
        self._process = None

    def _await_ready(self) -> None:
        if self._process is None:
            self._start()
        if self._ready:
            return
        self._control.settimeout(_START_SECONDS)
        try:
            self._ready = bool(self._control.recv(1 << 16))
        except TimeoutError:
            pass
        if not self._ready:
            self._process.kill()
            reason = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            self._stop()
            raise KitError(f"the worker did not start: {reason[-1] if reason else 'it ended at once'}")

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
            KitError: the worker itself cannot be started.
        """
        from autograder.worker import frames  # imports torch

        self._await_ready()
        ours, theirs = socket.socketpair()
        output, output_theirs = os.pipe()
        exchange = _Exchange(nonce=secrets.token_hex(16))
        started = time.monotonic()
        try:
            message = json.dumps({"op": "probe", "limits": limits.for_worker()}).encode()
            try:
                socket.send_fds(self._control, [message], [theirs.fileno(), output_theirs])
            except OSError:
                # The worker was killed between two probes; that costs this submission nothing but a new start.
                self._stop()
                self._await_ready()
                socket.send_fds(self._control, [message], [theirs.fileno(), output_theirs])
            theirs.close()
            os.close(output_theirs)
            output_theirs = None
            reason = self._converse(
                frames, ours, output, exchange, request, started + limits.seconds, limits.output_bytes, answer
            )
            status, survivors = self._end_probe(kill=reason is not None or exchange.result is None)
        finally:
            ours.close()
            theirs.close()
            os.close(output)
            if output_theirs is not None:
                os.close(output_theirs)
        outcome = _judge(exchange, reason, status, limits)
        outcome.seconds = time.monotonic() - started
        outcome.output = exchange.output.decode(errors="replace")
        if exchange.dropped:
            outcome.output += f"\n[cut: {exchange.dropped} more bytes]"
        if survivors:
            self._stop()
        return outcome

    def _converse(self, frames, channel, output, exchange, request, deadline, output_limit, answer) -> str | None:
        """Talk to the probe until it answers or ends.

        Returns:
            None when it answered or closed the channel, else "timeout" or what was wrong with its frames.
        """
        channel.setblocking(False)
        to_send = bytearray().join(frames.pack("request", exchange.nonce, request))
        reader = frames.FrameReader()
        with selectors.DefaultSelector() as selector:
            selector.register(channel, selectors.EVENT_READ | selectors.EVENT_WRITE)
            selector.register(output, selectors.EVENT_READ)
            while exchange.result is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return "timeout"
                for key, events in selector.select(left):
                    if key.fileobj == output:
                        if not _drain(output, exchange, output_limit):
                            selector.unregister(output)
                        continue
                    try:
                        if events & selectors.EVENT_WRITE:
                            sent = channel.send(to_send)
                            del to_send[:sent]
                            if not to_send:
                                selector.modify(channel, selectors.EVENT_READ)
                        if events & selectors.EVENT_READ:
                            data = channel.recv(1 << 20)
                            if not data:
                                return None
                            reader.feed(data)
                            while exchange.result is None and (frame := reader.next()) is not None:
                                reply = _take(frame, exchange, answer)
                                if reply is not None:
                                    to_send += b"".join(frames.pack("answer", exchange.nonce, reply))
                                    selector.modify(channel, selectors.EVENT_READ | selectors.EVENT_WRITE)
                    except BlockingIOError:
                        continue
                    except (ConnectionError, BrokenPipeError):
                        return None
                    except frames.FrameError as error:
                        return f"sent something that is not an answer ({error})"
            while _drain(output, exchange, output_limit, wait=False):
                pass
        return None

    def _end_probe(self, kill: bool) -> tuple[int | None, bool]:
        """Wait until the probe's process is gone; kill it first if it must end.

        Returns:
            Its wait status, or None when the worker is gone as well; and whether some process may have survived.
        """
        try:
            self._control.settimeout(0.5)
            try:
                if not kill:
                    return self._probe_ended()
            except TimeoutError:
                pass  # it answered and did not end
            self._control.send(b'{"op": "kill"}')
            self._control.settimeout(5)
            return self._probe_ended()
        except (OSError, ValueError):
            # The worker itself is dead or does not listen: the next probe gets a new one.
            self._stop()
            return None, False

    def _probe_ended(self) -> tuple[int, bool]:
        message = self._control.recv(1 << 16)
        if not message:
            raise ConnectionError
        ended = json.loads(message)
        return int(ended["status"]), bool(ended["survivors"])


def _drain(output: int, exchange: _Exchange, limit: int, wait: bool = True) -> bool:
    """Take what the probe printed; False when there is no more."""
    if not wait:
        os.set_blocking(output, False)
    try:
        data = os.read(output, 1 << 16)
    except BlockingIOError:
        return False
    room = max(0, limit - len(exchange.output))
    exchange.output += data[:room]
    exchange.dropped += len(data) - len(data[:room])
    return bool(data)


def _take(frame: dict, exchange: _Exchange, answer) -> dict | None:
    """Act on one frame of the probe; return the body of the answer when it asked for one."""
    from autograder.worker.frames import FrameError

    kind, body = frame["kind"], frame["body"]
    if frame["nonce"] != exchange.nonce:
        raise FrameError("a frame of another probe")
    if kind == "loaded" and exchange.stage == "import":
        exchange.stage = "run"
        return None
    if kind == "error" and isinstance(body, dict) and isinstance(body.get("message"), str):
        exchange.result = frame
        return None
    if kind == "result" and exchange.stage == "run":
        exchange.result = frame
        return None
    if kind == "call" and answer is not None and isinstance(body, dict):
        symbol, args, kwargs = body.get("symbol"), body.get("args"), body.get("kwargs")
        if isinstance(symbol, str) and isinstance(args, list) and isinstance(kwargs, dict):
            try:
                return {"value": answer(symbol, args, kwargs)}
            except Exception as error:  # wrong arguments: the submission's mistake, told as a call of the function would
                return {"error": f"{symbol.partition('.')[2]}: {type(error).__name__}: {error}"[:1000]}
    raise FrameError(f"a frame of kind {kind!r} out of place")


def _judge(exchange: _Exchange, reason: str | None, status: int | None, limits: Limits) -> Outcome:
    """Turn what happened into an outcome."""
    stage = exchange.stage
    frame = exchange.result
    if frame is not None and frame["kind"] == "result":
        return Outcome("ok", value=frame["body"], stage=stage)
    if frame is not None:
        body = frame["body"]
        where = body.get("where") if isinstance(body.get("where"), str) else None
        error_type = str(body.get("type", ""))[:100]
        message = body["message"][:2000]
        if error_type == "MemoryError" or "can't allocate memory" in message or "Cannot allocate memory" in message:
            return Outcome("memory", message=f"used more than {limits.memory_gib:g} GiB", where=where, stage=stage)
        return Outcome("error", message=message, error_type=error_type, where=where, stage=stage)
    doing = "while the file was imported" if stage == "import" else ""
    if reason == "timeout":
        return Outcome("timeout", message=f"stopped after {limits.seconds:g} s {doing}".strip(), stage=stage)
    if reason is not None:
        return Outcome("protocol", message=reason, stage=stage)
    if status is not None and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return Outcome("timeout", message=f"stopped after {limits.seconds:g} s of computing {doing}".strip())
        return Outcome("died", message=f"crashed with {signal.Signals(number).name} {doing}".strip(), stage=stage)
    return Outcome("died", message=f"ended the program without an answer {doing}".strip(), stage=stage)


def _clean_environment(home: str) -> dict[str, str]:
    """The same few variables on every machine: nothing of the grader's environment reaches a submission."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "CUDA_VISIBLE_DEVICES": "",
    }
