"""Frames on the channel between the trusted side and a worker: a JSON header, then raw tensor bytes, never pickle.

    frame = "FCOS" | uint32 header bytes | uint64 payload bytes | header (JSON, UTF-8) | payload

The header is {"kind": ..., "nonce": ..., "body": value}. A value is None, a bool, an int, a float, a string, a list, a
dict or a tensor, a torch dtype or the CPU device; dicts are written {"dict": [[key, value], ...]}, tensors
{"tensor": [dtype, shape]}, floats that JSON cannot write {"float": "nan"}, the rest {"dtype": "float32"} and
{"device": "cpu"}. The payload holds the tensors' bytes in the order in which the header names them, without gaps: so a
frame never takes more memory to read than it took to send, up to a small factor.
"""

import ctypes
import json
import math
import struct

import torch

MAGIC = b"FCOS"
PREFIX = struct.Struct("<4sIQ")
MAX_HEADER = 1 << 20
MAX_PAYLOAD = 64 << 20
MAX_DEPTH = 16
MAX_TENSORS = 4096
MAX_KEYS = 4096  # of one dict: integer keys can be chosen to collide, which costs the square of their number
MAX_NUMBER = 32  # characters; Python reads very long integers in quadratic time
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


class FrameError(Exception):
    """A frame or a value that the format does not allow."""


def pack(kind: str, nonce: str, body) -> list[bytes]:
    """Write one frame, in pieces to be sent one after the other.

    Args:
        kind: what the frame is for: "request", "loaded", "call", "answer", "result", "error".
        nonce: of the probe, repeated in every frame.
        body: any value that the format can express.

    Raises:
        FrameError: the body holds something else; the message names its type and place.
    """
    chunks: list[bytes] = []
    header = json.dumps({"kind": kind, "nonce": nonce, "body": _encode(body, chunks, "value", 0)}).encode()
    payload = sum(len(chunk) for chunk in chunks)
    if len(header) > MAX_HEADER or payload > MAX_PAYLOAD or len(chunks) > MAX_TENSORS:
        raise FrameError(f"the value is too large: {len(chunks)} tensors, {payload / 2**20:.0f} MiB")
    return [PREFIX.pack(MAGIC, len(header), payload) + header, *chunks]


def _encode(value, chunks: list[bytes], place: str, depth: int):
    if depth > MAX_DEPTH:
        raise FrameError(f"{place[:200]} is nested too deeply")
    if value is None or type(value) in (bool, str):
        return value
    if isinstance(value, int):
        if abs(value) >= 2**63:
            raise FrameError(f"{place} is an integer beyond 64 bits")
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, torch.dtype) and str(value).removeprefix("torch.") in DTYPES:
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": "cpu"}  # the grader has no other
    if isinstance(value, (list, tuple)):
        return [_encode(item, chunks, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        pairs = []
        for key, item in value.items():
            if type(key) not in (str, int):
                raise FrameError(f"{place} has a key of type {type(key).__name__}")
            pairs.append([key, _encode(item, chunks, f"{place}[{key!r}]", depth + 1)])
        return {"dict": pairs}
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return _encode_tensor(value, chunks, place)
    raise FrameError(f"{place} is a {type(value).__name__}, expected a tensor")


def _encode_tensor(tensor, chunks: list[bytes], place: str):
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES or tensor.layout is not torch.strided or tensor.is_quantized:
        raise FrameError(f"{place} is a tensor of kind {tensor.dtype}, {tensor.layout}, which cannot be graded")
    if tensor.device.type == "meta":
        raise FrameError(f"{place} is a meta tensor: it has a shape but no values")
    if tensor.numel() * tensor.element_size() > MAX_PAYLOAD:  # an expanded tensor is larger here than in memory
        raise FrameError(f"{place} is too large: {tensor.numel()} elements")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    chunks.append(ctypes.string_at(plain.data_ptr(), plain.numel() * plain.element_size()) if plain.numel() else b"")
    return {"tensor": [dtype, list(plain.shape)]}


class FrameReader:
    """Puts frames together from bytes as they arrive.

    Args:
        max_payload: bytes of tensors that one frame may carry.
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD):
        self._buffer = bytearray()
        self._max_payload = max_payload

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        self._buffer += data

    def next(self) -> dict | None:
        """Return the next whole frame as {"kind", "nonce", "body"}, or None when more bytes are needed.

        Raises:
            FrameError: the bytes are not a frame.
        """
        if len(self._buffer) < PREFIX.size:
            return None
        magic, header_size, payload_size = PREFIX.unpack_from(self._buffer)
        if magic != MAGIC or header_size > MAX_HEADER or payload_size > self._max_payload:
            raise FrameError("not a frame, or one beyond the size limit")
        end = PREFIX.size + header_size + payload_size
        if len(self._buffer) < end:
            return None
        header = bytes(self._buffer[PREFIX.size : PREFIX.size + header_size])
        payload = bytes(self._buffer[PREFIX.size + header_size : end])
        del self._buffer[:end]
        return unpack(header, payload)


def unpack(header: bytes, payload: bytes) -> dict:
    """Read one frame strictly.

    Returns:
        {"kind": str, "nonce": str, "body": value}; tensors own their memory.

    Raises:
        FrameError: anything is not as `pack` writes it.
    """
    try:
        frame = json.loads(
            header, parse_int=_integer, parse_float=_float, parse_constant=_refuse, object_pairs_hook=_object
        )
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the header is not JSON: {type(error).__name__}") from None
    if (
        not isinstance(frame, dict)
        or set(frame) != {"kind", "nonce", "body"}
        or not isinstance(frame["kind"], str)
        or not isinstance(frame["nonce"], str)
    ):
        raise FrameError("the header lacks kind, nonce or body")
    decoder = _Decoder(payload)
    body = decoder.value(frame["body"], 0)
    decoder.finish()
    return {"kind": frame["kind"], "nonce": frame["nonce"], "body": body}


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER or abs(number := int(text)) >= 2**63:
        raise FrameError("an integer beyond 64 bits")
    return number


def _float(text: str) -> float:
    if len(text) > MAX_NUMBER or not math.isfinite(number := float(text)):
        raise FrameError("a number beyond 64 bits")
    return number


def _refuse(name: str):
    raise FrameError(f"a bare {name}")


def _object(pairs: list) -> dict:
    if len(pairs) != len(dict(pairs)):
        raise FrameError("a key that appears twice")
    return dict(pairs)


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair: it could be written to no file and no terminal
            raise FrameError("text that is not Unicode") from None
    return value


class _Decoder:
    """Turns the JSON tree of one frame into values, taking tensor bytes from the payload in order."""

    def __init__(self, payload: bytes):
        self._payload = memoryview(payload)
        self._offset = 0
        self._tensors = 0

    def value(self, value, depth: int):
        if depth > MAX_DEPTH:
            raise FrameError("nested too deeply")
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if len(value) == 1:
            ((tag, content),) = value.items()
            if tag == "dict" and isinstance(content, list) and len(content) <= MAX_KEYS:
                return self._dict(content, depth)
            if tag == "float" and content in ("nan", "inf", "-inf"):
                return float(content)
            if tag == "dtype" and isinstance(content, str) and content in DTYPES:
                return DTYPES[content]
            if tag == "device" and content == "cpu":
                return torch.device("cpu")
            if tag == "tensor" and isinstance(content, list) and len(content) == 2:
                return self._tensor(*content)
        raise FrameError("a value of unknown form")

    def finish(self) -> None:
        if self._offset != len(self._payload):
            raise FrameError("bytes that belong to no tensor")

    def _dict(self, pairs: list, depth: int) -> dict:
        result = {}
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) not in (str, int) or pair[0] in result:
                raise FrameError("a dict of unknown form")
            key = _text(pair[0]) if isinstance(pair[0], str) else pair[0]
            result[key] = self.value(pair[1], depth + 1)
        return result

    def _tensor(self, dtype_name, shape) -> torch.Tensor:
        if not isinstance(dtype_name, str) or dtype_name not in DTYPES:
            raise FrameError("a tensor of unknown form")
        if not isinstance(shape, list) or len(shape) > 8 or any(type(size) is not int or size < 0 for size in shape):
            raise FrameError("a tensor of impossible shape")
        self._tensors += 1
        # Of an empty tensor the other sizes count as well: torch multiplies them when it works out strides.
        if self._tensors > MAX_TENSORS or math.prod(max(size, 1) for size in shape) >= 2**40:
            raise FrameError("more tensors, or larger ones, than a frame may hold")
        dtype, count = DTYPES[dtype_name], math.prod(shape)
        end = self._offset + count * dtype.itemsize
        if end > len(self._payload):
            raise FrameError("a tensor that reaches beyond its frame")
        data = bytearray(self._payload[self._offset : end])
        self._offset = end
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        if dtype is torch.bool:  # any byte but 0 and 1 would be neither true nor false
            return (torch.frombuffer(data, dtype=torch.uint8) != 0).reshape(shape)
        return torch.frombuffer(data, dtype=dtype).reshape(shape)
