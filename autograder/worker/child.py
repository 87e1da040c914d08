"""One probe, in its own process: read the request, load the submission, call it, send back what it returned."""

import random
import socket

import torch

from . import frames
from .fakes import FAKES
from .forbidden import forbid
from .probes import PROBES
from .submission import SubmissionError, describe, load_submission, where_in_submission

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


def run_probe(connection: socket.socket) -> None:
    """Serve one request on the channel; whatever goes wrong is sent back as an error frame."""
    channel = Channel(connection)
    request = channel.receive()
    channel.nonce, body = request["nonce"], request["body"]
    torch.manual_seed(0)
    random.seed(0)
    folder, stage = body["folder"], "import"
    try:
        forbid(body["forbidden"])
        submission = load_submission(folder, body["modules"], body["replaced"], channel.ask, FAKES)
        channel.send("loaded", None)
        stage = "run"
        value = PROBES[body["probe"]](submission, **body["inputs"])
        channel.send("result", value)
    except BaseException as error:  # SystemExit and KeyboardInterrupt included: they are answers too, and wrong ones
        channel.send("error", explain(error, folder, stage))


def explain(error: BaseException, folder: str, stage: str) -> dict:
    """Describe an error of the submission in plain strings."""
    message = str(error) if isinstance(error, (SubmissionError, frames.FrameError)) else describe(error)
    return {
        "stage": stage,
        "type": type(error).__name__[:100],
        "message": message[:_MESSAGE_LENGTH],
        "where": where_in_submission(error, folder),
    }
