"""Reads a tar as a stream, forwards and in small pieces.

`tarfile` is not meant for archives from strangers: in Pythons that the kit supports, its parser calls itself for every
header that announces another header, takes quadratic time for one kind of them, and follows negative sizes back to the
start. Here a long name is short, and time and memory grow with what was read alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

BLOCK = 512
_MAX_LONG_HEADER = 64 << 10  # a long name, or the attributes that a Mac stores with a file
_MAX_HEADERS = 16  # before one member; programs write up to three
_REGULAR = b"0\07"
_NO_DATA = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a FIFO"}
_CHUNK = 1 << 16


class TarError(Exception):
    """The bytes are not those of a tar."""


class Stream(Protocol):
    """What members are read from."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""


@dataclass
class Member:
    """One entry of a tar. It can be read like a file until the next one is taken.

    Attributes:
        name: as written; bytes that are not UTF-8 become surrogates.
        size: of its data, in bytes.
        refusal: why it is no plain file, or "".
        is_folder: a folder has no data and is of no interest.
    """

    name: str
    size: int
    refusal: str
    is_folder: bool
    _stream: Stream = field(repr=False)
    _left: int = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes of the data.

        Raises:
            EOFError: the archive ends before the data does.
        """
        data = self._stream.read(min(size, self._left))
        if not data and self._left and size:
            raise EOFError("the archive is cut off")
        self._left -= len(data)
        return data

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def members(stream: Stream) -> Iterator[Member]:
    """Read a tar: the old form, ustar, and the long names of GNU and pax.

    Raises:
        TarError: a header is damaged, too long, or missing at the end of the data; or too many speak of one member.
    """
    extended: dict[str, bytes] = {}  # from headers that speak of the next one
    headers = 0
    while True:
        header = _read_all(stream, BLOCK)
        if not header.strip(b"\0"):
            return  # the end is marked by zeros, or by nothing at all
        if len(header) < BLOCK or not _checks(header):
            raise TarError("a header is damaged")
        kind, size = header[156:157], _number(header[124:136])
        if kind in (b"L", b"K", b"x", b"g"):
            headers += 1
            if headers > _MAX_HEADERS:
                raise TarError(f"more than {_MAX_HEADERS} headers for one file")
            payload = _payload(stream, size)
            if kind == b"L":
                extended["path"] = payload.rstrip(b"\0")
            elif kind == b"x":
                extended |= _pax_records(payload)
            continue
        name = extended.get("path") or _ustar_name(header)
        if "size" in extended:
            size = _decimal(extended["size"])
        is_folder = kind == b"5" or (kind == b"\0" and name.endswith(b"/"))
        refusal = _NO_DATA.get(kind, "" if kind in _REGULAR else "not a regular file")
        if "sparse" in extended:
            refusal = "not a regular file"
        length = 0 if is_folder or kind in _NO_DATA else size
        member = Member(name.decode("utf-8", "surrogateescape"), size, refusal, is_folder, stream, length)
        yield member
        extended, headers = {}, 0
        _skip(stream, member._left + -length % BLOCK)


def _checks(header: bytes) -> bool:
    """Whether the header's sum, taken with its own field as spaces, is the one that it states."""
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    return total == _number(header[148:156])


def _number(field_bytes: bytes) -> int:
    """Read a number in octal digits, or in binary where its first bit is set."""
    if field_bytes[0] == 0x80:
        return int.from_bytes(field_bytes[1:], "big")
    digits = field_bytes.strip(b" \0") or b"0"
    if digits.strip(b"01234567"):  # a sign, too: no size is negative
        raise TarError("a number in a header is damaged")
    return int(digits, 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise TarError("a number in a header is damaged")
    return int(text)


def _ustar_name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    # GNU's form has other things where ustar has the prefix.
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _pax_records(payload: bytes) -> dict[str, bytes]:
    """Read records of the form "<length> <key>=<value>\\n"; kept are path, size and whether one of them says sparse."""
    records, at = {}, 0
    while at < len(payload) and payload[at] != 0:
        digits = payload[at : at + 8].split(b" ")[0]
        end = at + _decimal(digits)
        key, equals, value = payload[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or end > len(payload) or payload[end - 1 : end] != b"\n":
            raise TarError("a long header is damaged")
        if key in (b"path", b"size"):
            records[key.decode()] = value
        elif key.startswith(b"GNU.sparse"):
            records["sparse"] = b""
        at = end
    return records


def _payload(stream: Stream, size: int) -> bytes:
    if size > _MAX_LONG_HEADER:
        raise TarError("a header is longer than any name of a file")
    payload = _read_all(stream, size + -size % BLOCK)
    if len(payload) < size:
        raise TarError("a header is cut off")
    return payload[:size]


def _read_all(stream: Stream, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := stream.read(size - len(data))):
        data += chunk
    return data


def _skip(stream: Stream, size: int) -> None:
    while size:
        data = stream.read(min(size, _CHUNK))
        if not data:
            raise TarError("it is cut off")
        size -= len(data)
