"""The trusted end of one probe: takes frames, answers calls, keeps the clock. No byte that arrives makes it raise."""

import os
import secrets
import selectors
import signal
import socket
import time
from dataclasses import dataclass

from autograder.limits import Limits, Watchdog

_MESSAGE_LENGTH = 2000
# How the kernel's refusals read in Python.
_OUT_OF_MEMORY = ("can't allocate memory", "Cannot allocate memory")
_OUT_OF_PROCESSES = ("BlockingIOError: [Errno 11]", "can't start new thread")
_LAST_OUTPUT = 1 << 20  # read at the end, when nobody writes any more: a pipe holds no more than this


@dataclass
class Outcome:
    """What came of one probe.

    Attributes:
        status: "ok", or "error" (an exception in the submission), "timeout", "memory", "processes", "died" (a signal,
            or an exit without an answer), "protocol" (not a frame, or a value that cannot be graded).
        value: what the probe returned, when status is "ok".
        message: in words, for every other status. Of an "error" it is the submission's own text.
        error_type: name of the exception, when there was one; the submission's own text as well.
        where: "file:line" in the submission, or None; its own text as well.
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


class Conversation:
    """One probe, from the request to the answer.

    Args:
        channel: the trusted end of the probe's socket.
        output: descriptor to read what it prints.
        request: body of the request frame.
        limits: of this probe.
        answer: function (symbol, args, kwargs) -> value for calls of functions that belong to other tasks.
        watchdog: counts memory and processes; None where there is no worker.
    """

    def __init__(self, channel: socket.socket, output: int, request: dict, limits: Limits, answer, watchdog=None):
        from autograder.worker import frames  # imports torch

        self._frames = frames
        self._channel = channel
        self._output = output
        self._limits = limits
        self._answer = answer
        self._watchdog: Watchdog | None = watchdog
        self._nonce = secrets.token_hex(16)
        self._reader = frames.FrameReader()
        self._to_send = bytearray().join(frames.pack("request", self._nonce, request))
        self._stage = "import"
        self._result: dict | None = None
        self._failure: tuple[str, str] | None = None  # (status, message)
        self._closed = False
        self._heard = False
        self._printed = bytearray()
        self._dropped = 0

    @property
    def answered(self) -> bool:
        """Whether the probe has given a result or an error."""
        return self._result is not None

    @property
    def heard(self) -> bool:
        """Whether anything has come from the probe."""
        return self._heard

    def run(self) -> None:
        """Talk until the probe answers, closes the channel, breaks the format or passes a limit."""
        self._channel.setblocking(False)
        os.set_blocking(self._output, False)
        deadline = time.monotonic() + self._limits.grace_seconds
        look = time.monotonic() + Watchdog.tick_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_WRITE)
            selector.register(self._output, selectors.EVENT_READ)
            while not (self.answered or self._failure or self._closed):
                now = time.monotonic()
                if now >= deadline:
                    self._failure = "timeout", f"stopped after {self._limits.seconds:g} s"
                    return
                if self._watchdog is not None and now >= look:
                    look = now + Watchdog.tick_seconds
                    self._failure = self._watchdog.check(self._limits)
                    continue
                try:
                    self._step(selector, min(deadline, look) - now)
                except self._frames.FrameError as error:
                    self._failure = "protocol", f"sent something that is not an answer ({error})"
                except OSError:  # the probe's end is gone
                    self._closed = True

    def _step(self, selector, seconds: float) -> None:
        """Act on a frame that has arrived, or wait for the next thing to happen."""
        # One thing at a time: while an answer is on its way nothing is read, so a probe that asks and does not listen
        # can pile up neither questions nor answers here.
        if not self._to_send and (frame := self._reader.next()) is not None:
            self._take(frame)
            return
        selector.modify(self._channel, selectors.EVENT_WRITE if self._to_send else selectors.EVENT_READ)
        for key, events in selector.select(max(0.0, seconds)):
            if key.fileobj == self._output:
                if not self._read_output():
                    selector.unregister(self._output)
            elif events & selectors.EVENT_WRITE:
                del self._to_send[: self._channel.send(self._to_send)]
            else:
                data = self._channel.recv(1 << 20)
                self._closed = not data
                self._heard |= bool(data)
                self._reader.feed(data)

    def _read_output(self) -> bool:
        """Take what the probe printed; False when there will be no more."""
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return True
        room = max(0, self._limits.output_bytes - len(self._printed))
        self._printed += data[:room]
        self._dropped += len(data) - len(data[:room])
        return bool(data)

    def _take(self, frame: dict) -> None:
        """Act on one frame. The texts of its errors are ours alone: nothing of the frame goes into them."""
        kind, body = frame["kind"], frame["body"]
        if frame["nonce"] != self._nonce:
            raise self._frames.FrameError("a frame of another probe")
        if kind == "loaded" and self._stage == "import":
            self._stage = "run"
        elif (kind == "result" and self._stage == "run") or (kind == "error" and _is_error(body)):
            self._result = frame
        elif kind == "call" and self._answer is not None and _is_call(body):
            reply = self._reply(body["symbol"], body["args"], body["kwargs"])
            self._to_send += b"".join(self._frames.pack("answer", self._nonce, reply))
        else:
            raise self._frames.FrameError("a frame out of place")

    def _reply(self, symbol: str, args: list, kwargs: dict) -> dict:
        try:
            return {"value": self._answer(symbol, args, kwargs)}
        except Exception as error:  # wrong arguments: the submission's mistake, told as a call of the function would
            text = f"{symbol.partition('.')[2]}: {type(error).__name__}: {error}"
            return {"error": text[:1000].encode(errors="replace").decode()}

    def outcome(self, wait_status: int | None) -> Outcome:
        """Say what came of the probe, once its process is gone.

        Args:
            wait_status: of its process, or None when that is not known.
        """
        for _ in range(_LAST_OUTPUT >> 16):
            before = len(self._printed) + self._dropped
            if not self._read_output() or len(self._printed) + self._dropped == before:
                break
        outcome = self._judge(wait_status)
        outcome.stage = self._stage
        outcome.output = self._printed.decode(errors="replace")
        if self._dropped:
            outcome.output += f"\n[cut: {self._dropped} more bytes]"
        return outcome

    def _judge(self, wait_status: int | None) -> Outcome:
        doing = " while the file was imported" if self._stage == "import" else ""
        if self._result is not None:
            body = self._result["body"]
            return Outcome("ok", body) if self._result["kind"] == "result" else self._error(body)
        if self._failure is not None:
            status, message = self._failure
            return Outcome(status, message=message + ("" if status == "protocol" else doing))
        if wait_status is not None and os.WIFSIGNALED(wait_status):
            number = os.WTERMSIG(wait_status)
            if number == signal.SIGXCPU:
                return Outcome("timeout", message=f"stopped after {self._limits.cpu_seconds:g} s of computing{doing}")
            return Outcome("died", message=f"crashed with {_signal_name(number)}{doing}")
        return Outcome("died", message=f"ended the program without an answer{doing}")

    def _error(self, body: dict) -> Outcome:
        message, error_type = body["message"][:_MESSAGE_LENGTH], body["type"][:100]
        where = body["where"][:200] if body["where"] is not None else None
        if error_type == "TooSlow":
            return Outcome("timeout", message=f"stopped after {self._limits.seconds:g} s", where=where)
        if error_type == "MemoryError" or any(text in message for text in _OUT_OF_MEMORY):
            return Outcome("memory", message=f"used more than {self._limits.memory_gib:g} GiB", where=where)
        if any(text in message for text in _OUT_OF_PROCESSES):
            text = f"started more than {self._limits.processes} processes and threads"
            return Outcome("processes", message=text, where=where)
        return Outcome("error", message=message, error_type=error_type, where=where)


def _is_error(body) -> bool:
    return (
        isinstance(body, dict)
        and set(body) == {"type", "message", "where"}
        and all(isinstance(body[key], str) for key in ("type", "message"))
        and isinstance(body["where"], (str, type(None)))
    )


def _is_call(body) -> bool:
    return (
        isinstance(body, dict)
        and set(body) == {"symbol", "args", "kwargs"}
        and isinstance(body["symbol"], str)
        and isinstance(body["args"], list)
        and isinstance(body["kwargs"], dict)
        and all(isinstance(name, str) for name in body["kwargs"])
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"
