"""Recognises what must not get out: the inputs and answers of hidden tests, the solutions, the grader's environment."""

import contextlib
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from unittest import mock

from autograder.case import Case, load_case, map_tensors
from autograder.sandbox import Outcome, Worker
from autograder.tasks import FILES, ROOT
from tools.hostile import Marks

ENVIRONMENT = "FCOS_SECRET_OF_THE_GRADER"  # set before the graders start, or /proc would not show it
_NUMBER = re.compile(r"\d+\.\d{5,}(?:e[+-]?\d+)?")


class Canary:
    """Knows everything secret of one grading, and finds it in a text."""

    def __init__(self):
        self.word = f"canary-{secrets.token_hex(8)}"
        self.hidden_inputs: list[dict] = []  # kept, so that no other object gets the identity of one
        self._numbers: set[float] = set()
        self._public: set[float] = set()
        self._lines = _solution_lines()

    def learn(self, case: Case, hidden: bool) -> None:
        """Take note of a case's numbers."""
        numbers: set[float] = set()

        def collect(tensor):
            if tensor.is_floating_point():
                numbers.update(tensor.detach().flatten().tolist())

        map_tensors([case.inputs, case.expected], collect)
        if hidden:
            self.hidden_inputs.append(case.inputs)
        (self._numbers if hidden else self._public).update(numbers)

    def found_in(self, text: str, own_code: str) -> list[str]:
        """Return what of the secrets a text holds.

        Args:
            text: of a report, a message, a log.
            own_code: of the submission; lines that it shares with the solutions are no secret to it.
        """
        found = [word for word in (self.word, os.environ.get(ENVIRONMENT)) if word and word in text]
        # Sixteen digits that agree are no accident: a submission prints what it got in full.
        tokens = {float(token) for token in _NUMBER.findall(text)}
        found += [f"hidden value {value!r}" for value in tokens & (self._numbers - self._public)]
        found += [f"solution line {line!r}" for line in self._lines if line in text and line not in own_code]
        return found


def _solution_lines() -> set[str]:
    """Lines that are in the solutions and not in what students receive."""
    lines: set[str] = set()
    for name in FILES:
        given = (ROOT / "assignment" / name).read_text(encoding="utf-8")
        for line in (ROOT / "solutions" / name).read_text(encoding="utf-8").splitlines():
            code = line.strip()
            if len(code) >= 30 and code not in given and not code.startswith("#"):
                lines.add(code)
    return lines


class WatchedWorker(Worker):
    """A worker that puts the canary beside the inputs of hidden tests, and keeps what submissions print."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.canary = Canary()
        self.printed: list[str] = []

    def run(self, request: dict, *args, **kwargs) -> Outcome:
        """Run one probe."""
        if any(request["inputs"] is inputs for inputs in self.canary.hidden_inputs):
            request = {**request, "canary": self.canary.word}
        outcome = super().run(request, *args, **kwargs)
        self.printed.append(outcome.output)
        return outcome


@contextlib.contextmanager
def watching(worker: WatchedWorker) -> Iterator[Canary]:
    """Let the worker's canary learn every case that is graded inside the context."""
    from autograder.oracle import make_case

    canary = worker.canary = Canary()
    worker.printed = []

    def load(path):
        case = load_case(path)
        canary.learn(case, hidden=path.parent.name == "hidden")
        return case

    def make(*args):
        case = make_case(*args)
        canary.learn(case, hidden=True)
        return case

    with mock.patch("autograder.plugin.load_case", load), mock.patch("autograder.oracle.make_case", make):
        yield canary


@contextlib.contextmanager
def listening(marks: Marks) -> Iterator[list[str]]:
    """Wait for callers on this machine: on its loopback, at `marks.port` from now on, and on Unix sockets.

    Yields:
        The list of the calls that came.
    """
    came: list[str] = []
    places = [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_UNIX, marks.socket),
        (socket.AF_UNIX, "\0" + marks.survivor),
    ]
    with contextlib.ExitStack() as stack:
        for family, address in places:
            listener = stack.enter_context(socket.socket(family))
            listener.bind(address)
            listener.listen()
            listener.settimeout(0.2)
            if family == socket.AF_INET:
                marks.port = listener.getsockname()[1]
            elif address == marks.socket:
                stack.callback(os.unlink, address)
            stop = threading.Event()
            waiter = threading.Thread(target=_wait_for_callers, args=(listener, stop, came, str(address)))
            waiter.start()
            stack.callback(waiter.join)
            stack.callback(stop.set)
        yield came


def _wait_for_callers(listener: socket.socket, stop: threading.Event, came: list[str], address: str) -> None:
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            connection, _ = listener.accept()
            connection.close()
            came.append(f"a connection to {address}")
