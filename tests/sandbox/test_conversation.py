"""The trusted end of a probe, against every kind of partner: nothing makes it raise or wait beyond its time."""

import contextlib
import json
import os
import signal
import socket
import threading
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autograder.conversation import Conversation
from autograder.limits import Limits
from autograder.worker import frames

QUICK = Limits(seconds=0.3)
REQUEST = {"inputs": {"boxes": torch.zeros(3, 4)}}


def talk(partner, limits=QUICK, answer=None, wait_status=None, request=REQUEST):
    """Run a conversation with `partner(connection, output, nonce)` in a thread; return its outcome."""
    ours, theirs = socket.socketpair()
    output, output_theirs = os.pipe()
    conversation = Conversation(ours, output, request, limits, answer)

    def run():
        try:
            with contextlib.suppress(OSError):  # the trusted end has had enough
                partner(theirs, output_theirs, conversation._nonce)
        finally:
            theirs.close()
            os.close(output_theirs)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        conversation.run()
        ours.close()
        outcome = conversation.outcome(wait_status)
    finally:
        ours.close()
        os.close(output)
        thread.join()
    return outcome


def frame(kind, nonce, body) -> bytes:
    return b"".join(frames.pack(kind, nonce, body))


def read_request(connection):
    reader = frames.FrameReader()
    while (found := reader.next()) is None:
        reader.feed(connection.recv(1 << 16))
    return found


def send_later(*pieces):
    def partner(connection, output, nonce):
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece(nonce) if callable(piece) else piece)

    return partner


LOADED = lambda nonce: frame("loaded", nonce, None)  # noqa: E731
RESULT = lambda nonce: frame("result", nonce, torch.ones(2))  # noqa: E731
ERROR = {"type": "ValueError", "message": "ValueError: no", "where": "common.py:3"}


def test_result_is_taken():
    outcome = talk(send_later(LOADED, RESULT))
    assert (outcome.status, outcome.stage) == ("ok", "run")
    assert torch.equal(outcome.value, torch.ones(2))


def test_request_reaches_the_probe_however_large_it_is():
    seen = {}

    def partner(connection, output, nonce):
        seen.update(read_request(connection))
        connection.sendall(LOADED(nonce) + RESULT(nonce))

    request = {"inputs": {"boxes": torch.rand(1000, 1000)}}
    assert talk(partner, Limits(seconds=20), request=request).status == "ok"
    assert torch.equal(seen["body"]["inputs"]["boxes"], request["inputs"]["boxes"])


# Frames that are well formed and out of place.
OUT_OF_PLACE = {
    "a result before the submission is loaded": [RESULT],
    "loaded twice": [LOADED, LOADED],
    "a frame of another probe": [LOADED, frame("result", "f" * 32, None)],
    "a verdict": [lambda nonce: frame("verdict", nonce, "passed")],
    "an answer": [lambda nonce: frame("answer", nonce, {"value": 1})],
    "an error without a message": [lambda nonce: frame("error", nonce, {"type": "ValueError"})],
    "an error that is text": [lambda nonce: frame("error", nonce, "ValueError")],
    "an error with more": [lambda nonce: frame("error", nonce, {**ERROR, "points": 6})],
    "an error whose place is a number": [lambda nonce: frame("error", nonce, {**ERROR, "where": 3})],
    "a call where none is answered": [
        lambda nonce: frame("call", nonce, {"symbol": "common.nms", "args": [], "kwargs": {}})
    ],
    "bytes that are no frame": [b"HTTP/1.1 200 OK\r\n\r\n"],
}


@pytest.mark.parametrize("pieces", OUT_OF_PLACE.values(), ids=OUT_OF_PLACE)
def test_frame_out_of_place_is_no_answer(pieces):
    outcome = talk(send_later(*pieces))
    assert outcome.status == "protocol"
    assert outcome.message.startswith("sent something that is not an answer")


@pytest.mark.parametrize("name", ["kind", "nonce", "body"])
def test_message_about_a_frame_holds_nothing_of_it(name):
    fields = {"kind": "result", "nonce": "n", "body": "hidden"} | {name: "hidden input 3.14159"}
    header = json.dumps(fields).encode()
    outcome = talk(send_later(frames.PREFIX.pack(frames.MAGIC, len(header), 0) + header))
    assert outcome.status == "protocol"
    assert "hidden" not in outcome.message


ENDINGS = {
    "closes": (None, "ended the program without an answer while the file was imported"),
    "crashes": (signal.SIGSEGV, "crashed with SIGSEGV while the file was imported"),
    "has a signal without a name": (40, "crashed with signal 40 while the file was imported"),
    "computes too long": (signal.SIGXCPU, "stopped after 2.6 s of computing while the file was imported"),
}


@pytest.mark.parametrize(("status", "message"), ENDINGS.values(), ids=ENDINGS)
def test_end_without_an_answer_is_named(status, message):
    assert talk(send_later(), wait_status=status).message == message


@pytest.mark.parametrize("piece", [b"", b"FCOS", frames.PREFIX.pack(frames.MAGIC, 100, 100)])
def test_silence_ends_with_the_time_limit(piece):
    def partner(connection, output, nonce):
        connection.sendall(piece)
        while connection.recv(1 << 16):
            pass

    outcome = talk(partner)
    assert (outcome.status, outcome.message) == ("timeout", "stopped after 0.3 s while the file was imported")


def test_slow_frame_ends_with_the_time_limit():
    def partner(connection, output, nonce):
        connection.sendall(frames.PREFIX.pack(frames.MAGIC, 1 << 20, 0))
        while True:
            connection.sendall(b" ")
            time.sleep(0.01)

    assert talk(partner).status == "timeout"


def test_output_is_cut_and_counted():
    def partner(connection, output, nonce):
        os.write(output, b"a" * 5000)
        connection.sendall(LOADED(nonce) + RESULT(nonce))

    outcome = talk(partner, Limits(seconds=20, output_bytes=1000))
    assert outcome.output == "a" * 1000 + "\n[cut: 4000 more bytes]"


def test_endless_output_delays_nothing():
    """A daemon that goes on printing after the answer: what it prints is not read to its end, which there is not."""
    stop = threading.Event()
    ours, theirs = socket.socketpair()
    output, output_theirs = os.pipe()
    conversation = Conversation(ours, output, REQUEST, Limits(seconds=20), None)
    theirs.sendall(LOADED(conversation._nonce) + RESULT(conversation._nonce))

    def flood():
        os.set_blocking(output_theirs, False)
        while not stop.is_set():
            with contextlib.suppress(BlockingIOError):
                os.write(output_theirs, b"passed\n" * 9000)

    thread = threading.Thread(target=flood)
    thread.start()
    emergency = threading.Timer(60, stop.set)
    emergency.start()
    try:
        conversation.run()
        outcome = conversation.outcome(None)
        assert not stop.is_set()
        assert outcome.status == "ok"
    finally:
        stop.set()
        emergency.cancel()
        thread.join()
        for descriptor in (output, output_theirs):
            os.close(descriptor)
        ours.close()
        theirs.close()


def test_call_is_answered():
    received = {}

    def partner(connection, output, nonce):
        read_request(connection)
        connection.sendall(
            LOADED(nonce) + frame("call", nonce, {"symbol": "common.add", "args": [1], "kwargs": {"b": 2}})
        )
        received.update(read_request(connection))
        connection.sendall(RESULT(nonce))

    outcome = talk(partner, Limits(seconds=20), answer=lambda symbol, args, kwargs: [symbol, *args, kwargs["b"]])
    assert outcome.status == "ok"
    assert received["body"] == {"value": ["common.add", 1, 2]}


def test_call_with_wrong_arguments_is_told_so():
    received = {}

    def partner(connection, output, nonce):
        read_request(connection)
        connection.sendall(frame("call", nonce, {"symbol": "common.nms", "args": [], "kwargs": {}}))
        received.update(read_request(connection))

    def answer(symbol, args, kwargs):
        raise TypeError("missing a required argument: 'boxes' \ud800")

    talk(partner, Limits(seconds=20), answer=answer)
    assert received["body"] == {"error": "nms: TypeError: missing a required argument: 'boxes' ?"}


def test_caller_that_does_not_listen_piles_nothing_up():
    """Each question takes a hundred bytes, each answer a megabyte: unread, they must not be asked for."""
    answered = []

    def answer(symbol, args, kwargs):
        answered.append(symbol)
        return torch.zeros(1 << 18)

    def partner(connection, output, nonce):
        read_request(connection)
        call = frame("call", nonce, {"symbol": "common.nms", "args": [], "kwargs": {}})
        while True:
            connection.sendall(call)

    assert talk(partner, answer=answer).status == "timeout"
    assert len(answered) == 1


BROKEN_CALLS = [
    {"symbol": 1, "args": [], "kwargs": {}},
    {"symbol": "common.nms", "args": {}, "kwargs": {}},
    {"symbol": "common.nms", "args": [], "kwargs": {1: 2}},
    {"symbol": "common.nms", "args": []},
    None,
]


@pytest.mark.parametrize("body", BROKEN_CALLS)
def test_call_of_another_form_is_no_answer(body):
    assert talk(send_later(lambda nonce: frame("call", nonce, body)), answer=lambda *_: 1).status == "protocol"


PIECES = (
    st.binary(max_size=60)
    | st.sampled_from(["loaded", "result", "error", "call", "answer", "verdict"])
    | st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
)


@given(st.lists(PIECES, max_size=5))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_crash_or_hang_the_trusted_side(pieces):
    bodies = {"error": ERROR, "call": {"symbol": "common.nms", "args": [], "kwargs": {}}}

    def partner(connection, output, nonce):
        for piece in pieces:
            if isinstance(piece, bytes):
                os.write(output, piece)
                connection.sendall(piece)
            elif isinstance(piece, str):
                connection.sendall(frame(piece, nonce, bodies.get(piece)))
            else:
                connection.sendall(frames.PREFIX.pack(frames.MAGIC, *piece))

    outcome = talk(partner, Limits(seconds=0.1), answer=lambda *_: None)
    assert outcome.status in ("ok", "error", "protocol", "died", "timeout")
