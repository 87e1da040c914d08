"""Frames on the channel between the trusted side and a worker: a JSON header, then raw tensor bytes. No pickle anywhere.

    frame = "FCOS" | uint32 header bytes | uint64 payload bytes | header (JSON, UTF-8) | payload

The header is {"kind": ..., "nonce": ..., "body": value}. A value is None, a bool, an int, a float, a string, a list, a dict or a
tensor, a torch dtype or the CPU device; dicts are written {"dict": [[key, value], ...]}, tensors
{"tensor": [dtype, shape, offset]} with their bytes in the payload, floats that JSON cannot write {"float": "nan"}, the rest
{"dtype": "float32"} and {"device": "cpu"}.
"""

import ctypes
import json
import math
import struct

import torch

MAGIC = b"FCOS"
PREFIX = struct.Struct("<4sIQ")
MAX_HEADER = 4 << 20
MAX_PAYLOAD = 512 << 20
MAX_DEPTH = 16
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
    if len(header) > MAX_HEADER or payload > MAX_PAYLOAD:
        raise FrameError(f"the value is too large: {payload / 2**20:.0f} MiB of tensors")
    return [PREFIX.pack(MAGIC, len(header), payload) + header, *chunks]


def _encode(value, chunks: list[bytes], place: str, depth: int):
    if depth > MAX_DEPTH:
        raise FrameError(f"{place} is nested too deeply")
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
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    chunk = ctypes.string_at(plain.data_ptr(), plain.numel() * plain.element_size()) if plain.numel() else b""
    offset = sum(len(other) for other in chunks)
    chunks.append(chunk)
    return {"tensor": [dtype, list(plain.shape), offset]}


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
        frame = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the header is not JSON: {type(error).__name__}") from None
    if (
        not isinstance(frame, dict)
        or set(frame) != {"kind", "nonce", "body"}
        or not isinstance(frame["kind"], str)
        or not isinstance(frame["nonce"], str)
    ):
        raise FrameError("the header lacks kind, nonce or body")
    return {"kind": frame["kind"], "nonce": frame["nonce"], "body": _decode(frame["body"], payload, 0)}


def _decode(value, payload: bytes, depth: int):
    if depth > MAX_DEPTH:
        raise FrameError("nested too deeply")
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if abs(value) >= 2**63:
            raise FrameError("an integer beyond 64 bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):  # json.loads accepts NaN; the format does not
            raise FrameError("a bare non-finite number")
        return value
    if isinstance(value, list):
        return [_decode(item, payload, depth + 1) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        (tag, content), *_ = value.items()
        if tag == "dict" and isinstance(content, list):
            return _decode_dict(content, payload, depth)
        if tag == "float" and content in ("nan", "inf", "-inf"):
            return float(content)
        if tag == "dtype" and isinstance(content, str) and content in DTYPES:
            return DTYPES[content]
        if tag == "device" and content == "cpu":
            return torch.device("cpu")
        if tag == "tensor" and isinstance(content, list) and len(content) == 3:
            return _decode_tensor(*content, payload)
    raise FrameError("a value of unknown form")


def _decode_dict(pairs: list, payload: bytes, depth: int) -> dict:
    result = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) not in (str, int) or pair[0] in result:
            raise FrameError("a dict of unknown form")
        result[pair[0]] = _decode(pair[1], payload, depth + 1)
    return result


def _decode_tensor(dtype_name, shape, offset, payload: bytes) -> torch.Tensor:
    if not isinstance(dtype_name, str) or dtype_name not in DTYPES or type(offset) is not int or offset < 0:
        raise FrameError("a tensor of unknown form")
    if not isinstance(shape, list) or len(shape) > 8 or any(type(size) is not int or size < 0 for size in shape):
        raise FrameError("a tensor of impossible shape")
    dtype, count = DTYPES[dtype_name], math.prod(shape)
    end = offset + count * dtype.itemsize
    if end > len(payload) or any(size >= 2**31 for size in shape):
        raise FrameError("a tensor that reaches beyond its frame")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(payload[offset:end]), dtype=dtype).reshape(shape)
