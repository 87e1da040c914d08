"""One probe, in its own process: read the request, load the submission, call it, send back what it returned."""

import functools
import random
import socket

import torch

from . import (
    detector,  # noqa: F401 - registers its probe
    frames,
)
from .fakes import FAKES
from .forbidden import forbid
from .limits import TooSlow, time_limit
from .probes import PROBES
from .review import review
from .submission import SubmissionError, describe, load_submission, where_in_submission
from .weights import inspect_weights

# Probes that look at the files and run nothing of them.
STATIC_PROBES = {"review": review, "weights": inspect_weights}
_MESSAGE_LENGTH = 2000


class Channel:
    """Frames over a socket, for the untrusted end."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._reader = frames.FrameReader()
        self.nonce = ""

    def send(self, kind: str, body) -> None:
        """Send one frame."""
        for piece in frames.pack(kind, self.nonce, body):
            self._connection.sendall(piece)

    def receive(self) -> dict:
        """Wait for the next frame."""
        while (frame := self._reader.next()) is None:
            data = self._connection.recv(1 << 20)
            if not data:
                raise EOFError("the grader closed the channel")
            self._reader.feed(data)
        return frame

    def ask(self, symbol: str, args, kwargs):
        """Let the trusted side compute a function that belongs to another task."""
        self.send("call", {"symbol": symbol, "args": list(args), "kwargs": kwargs})
        answer = self.receive()["body"]
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]


def run_probe(connection: socket.socket, seconds: float, import_seconds: float) -> None:
    """Serve one request on the channel; whatever goes wrong is sent back as an error frame.

    Args:
        connection: the probe's end of the channel.
        seconds: for the probe, so that a report can name the line; the trusted side ends it a little later.
        import_seconds: for each of the submission's two files.
    """
    channel = Channel(connection)
    request = channel.receive()
    channel.nonce, body = request["nonce"], request["body"]
    torch.manual_seed(0)
    random.seed(0)
    folder = body["folder"]
    try:
        if body["probe"] in STATIC_PROBES:
            channel.send("loaded", None)
            channel.send("result", STATIC_PROBES[body["probe"]](folder, **body["inputs"]))
            return
        forbid(body["forbidden"])
        importing = functools.partial(time_limit, import_seconds)
        submission = load_submission(folder, body["modules"], body["replaced"], channel.ask, FAKES, importing)
        torch.set_num_threads(1)  # whatever its files say: threads of several submissions would wait for each other
        channel.send("loaded", None)
        with time_limit(seconds):
            value = PROBES[body["probe"]](submission, **body["inputs"])
        channel.send("result", value)
    except BaseException as error:  # SystemExit and KeyboardInterrupt included: they are answers too, and wrong ones
        channel.send("error", explain(error, folder))


def explain(error: BaseException, folder: str) -> dict:
    """Describe an error of the submission in plain strings."""
    ours = isinstance(error, (SubmissionError, frames.FrameError, TooSlow))
    message = str(error) if ours else describe(error)
    return {
        "type": type(error).__name__[:100],
        "message": message[:_MESSAGE_LENGTH].encode(errors="replace").decode(),
        "where": where_in_submission(error, folder),
    }
