"""The channel's format: what goes in comes out, and no bytes do anything but raise `FrameError`."""

import contextlib
import json
import math
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.worker import frames
from autograder.worker.frames import FrameError, FrameReader, pack, unpack

NUMBERS = st.integers(-(2**63) + 1, 2**63 - 1) | st.floats()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXT | st.sampled_from([torch.float32, torch.int64, torch.device("cpu")])
TENSORS = st.builds(
    lambda dtype, shape: torch.randint(0, 2, shape).to(frames.DTYPES[dtype]),
    st.sampled_from(sorted(frames.DTYPES)),
    st.lists(st.integers(0, 3), max_size=4),
)
VALUES = st.recursive(
    LEAVES | TENSORS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.integers(0, 9), inner, max_size=4),
    max_leaves=12,
)

HEADER = {"kind": "result", "nonce": "n", "body": None}
# What a header's body must not hold, and what would go wrong if it did.
BAD_BODIES = {
    "more bytes than there are": {"tensor": ["float32", [3]]},
    "a shape whose product overflows": {"tensor": ["float32", [2**62, 4, 2**62]]},
    "an empty tensor whose strides overflow": {"tensor": ["float32", [0, 2**31, 2**31, 2**31]]},
    "a negative size": {"tensor": ["float32", [-1]]},
    "a size that is true": {"tensor": ["float32", [True]]},
    "a size with a fraction": {"tensor": ["float32", [1.0]]},
    "nine dimensions": {"tensor": ["float32", [1] * 9]},
    "an unknown dtype": {"tensor": ["complex64", [0]]},
    "an unhashable dtype": {"tensor": [["float32"], [0]]},
    "an offset of its own": {"tensor": ["float32", [0], 0]},
    "more tensors than allowed": [{"tensor": ["uint8", [0]]}] * (frames.MAX_TENSORS + 1),
    "more keys than allowed": {"dict": [[i, None] for i in range(frames.MAX_KEYS + 1)]},
    "a key twice": {"dict": [["a", 1], ["a", 2]]},
    "a key that is a list": {"dict": [[["a"], 1]]},
    "a key that is true": {"dict": [[True, 1]]},
    "a pair of three": {"dict": [["a", 1, 2]]},
    "a plain object": {"a": 1},
    "an empty object": {},
    "two tags": {"dict": [], "float": "nan"},
    "an unknown float": {"float": "nan()"},
    "a float that is a list": {"float": ["nan"]},
    "another device": {"device": "cuda"},
    "half a surrogate pair": "\ud800",
    "half a surrogate pair as a key": {"dict": [["\ud800", 1]]},
}
BAD_HEADERS = {
    "not JSON": b"{",
    "not UTF-8": b'{"kind": "\xff", "nonce": "n", "body": null}',
    "a list": b"[]",
    "a key twice": b'{"kind": "result", "kind": "error", "nonce": "n", "body": null}',
    "a key too many": b'{"kind": "result", "nonce": "n", "body": null, "score": 6}',
    "a kind that is no text": b'{"kind": 1, "nonce": "n", "body": null}',
    "a bare NaN": b'{"kind": "result", "nonce": "n", "body": NaN}',
    "a bare infinity": b'{"kind": "result", "nonce": "n", "body": -Infinity}',
    "a number beyond floats": b'{"kind": "result", "nonce": "n", "body": 1e999}',
    "an integer of a million digits": b'{"kind": "result", "nonce": "n", "body": ' + b"7" * 10**6 + b"}",
    "an integer beyond 64 bits": b'{"kind": "result", "nonce": "n", "body": 9223372036854775808}',
    "a float of a million digits": b'{"kind": "result", "nonce": "n", "body": 0.' + b"7" * 10**6 + b"}",
    "brackets without end": b'{"kind": "result", "nonce": "n", "body": ' + b"[" * 10**6,
    "nested too deeply": b'{"kind": "result", "nonce": "n", "body": ' + b"[" * 18 + b"]" * 18 + b"}",
}


def through_the_channel(body):
    reader = FrameReader()
    reader.feed(b"".join(pack("result", "n", body)))
    return reader.next()["body"]


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and one == other


@given(VALUES)
@settings(deadline=None)
def test_values_come_out_as_they_went_in(value):
    assert same(value, through_the_channel(value))


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_reader_takes_no_random_bytes(data):
    reader = FrameReader()
    reader.feed(data)
    with contextlib.suppress(FrameError):
        assert reader.next() is None


@given(VALUES, st.data())
@settings(deadline=None)
def test_reader_survives_a_frame_with_changed_bytes(value, data):
    frame = bytearray(b"".join(pack("result", "n", value)))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    reader = FrameReader()
    reader.feed(bytes(frame))
    try:
        found = reader.next()
    except FrameError:
        return
    assert found is None or set(found) == {"kind", "nonce", "body"}


@given(st.lists(VALUES, min_size=1, max_size=3), st.data())
@settings(deadline=None)
def test_reader_puts_pieces_together(values, data):
    stream = b"".join(piece for value in values for piece in pack("result", "n", value))
    reader, found = FrameReader(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:cut])
        stream = stream[cut:]
        while (frame := reader.next()) is not None:
            found.append(frame["body"])
    assert same(values, found)


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_body_of_another_form_is_refused(body):
    with pytest.raises(FrameError):
        unpack(json.dumps({**HEADER, "body": body}).encode(), b"")


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_header_of_another_form_is_refused(header):
    with pytest.raises(FrameError):
        unpack(header, b"")


def test_bytes_without_a_tensor_are_refused():
    with pytest.raises(FrameError, match="belong to no tensor"):
        unpack(json.dumps(HEADER).encode(), b"x")


def test_one_payload_cannot_be_named_many_times():
    """A header of 1 MiB could name a payload some ten thousand times; each tensor must bring its own bytes."""
    body = [{"tensor": ["uint8", [1000]]}] * 1000
    with pytest.raises(FrameError, match="beyond its frame"):
        unpack(json.dumps({**HEADER, "body": body}).encode(), bytes(1000))


@pytest.mark.parametrize("unit", ["[],", "{},", '"a",', "1.5,", "[[],[]],"])
def test_largest_header_takes_little_memory(unit):
    """At most some hundred times its size: an object of Python for each two or three bytes."""
    prefix, suffix = b'{"kind": "result", "nonce": "n", "body": [', b"null]}"
    header = prefix + unit.encode() * ((frames.MAX_HEADER - 100) // len(unit)) + suffix
    tracemalloc.start()
    try:
        with contextlib.suppress(FrameError):
            unpack(header, b"")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 128 << 20


@pytest.mark.parametrize(
    "prefix",
    [
        frames.PREFIX.pack(b"HTTP", 2, 0),
        frames.PREFIX.pack(b"FCOS", frames.MAX_HEADER + 1, 0),
        frames.PREFIX.pack(b"FCOS", 2, frames.MAX_PAYLOAD + 1),
        frames.PREFIX.pack(b"FCOS", 2**32 - 1, 2**64 - 1),
    ],
    ids=["another format", "a long header", "a long payload", "the largest sizes"],
)
def test_prefix_is_judged_before_anything_is_waited_for(prefix):
    reader = FrameReader()
    reader.feed(prefix)
    with pytest.raises(FrameError):
        reader.next()


def test_booleans_are_zero_or_one():
    header = json.dumps({**HEADER, "body": {"tensor": ["bool", [4]]}}).encode()
    values = unpack(header, bytes([0, 1, 2, 255]))["body"]
    assert values.tolist() == [False, True, True, True]
    assert values.to(torch.uint8).tolist() == [0, 1, 1, 1]


class Lazy(torch.Tensor):
    pass


REFUSED = {
    "a subclass": torch.zeros(2).as_subclass(Lazy),
    "a meta tensor": torch.zeros(2, device="meta"),
    "a sparse tensor": torch.zeros(2).to_sparse(),
    "a complex tensor": torch.zeros(2, dtype=torch.complex64),
    "an expanded tensor beyond the limit": torch.zeros(1).expand(100 << 20),
    "a huge integer": 2**63,
    "a set": {1},
    "a key that is a tuple": {(1, 2): 3},
    "nested too deeply": [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]],
    "an object": object(),
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_pack_names_what_it_cannot_send(value):
    with pytest.raises(FrameError, match="value"):
        pack("result", "n", value)


def test_views_and_parameters_are_sent_as_plain_tensors():
    base = torch.arange(12.0).reshape(3, 4)
    for view in (base.T, base[:, ::2], torch.nn.Parameter(base), base.requires_grad_() * 2, torch.conj(base)):
        received = through_the_channel(view)
        assert type(received) is torch.Tensor
        assert not received.requires_grad
        assert torch.equal(received, view.detach())
