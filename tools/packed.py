"""Opens what a text can hide: base64, hexadecimal digits or lists of integers, in one piece or many, compressed or not.

What cannot be undone here, a cipher for instance, `tools.leaks` reports as a block when it is long.
"""

import ast
import base64
import bz2
import contextlib
import lzma
import re
import zlib
from collections.abc import Iterator

LEAST = 24  # characters: less is shorter than a line of a solution
_APART = re.compile(r"""[\s"'`,;()\[\]{}\\]+""")  # what stands between the pieces of a string or a list
_BASE64 = re.compile(rf"[A-Za-z0-9+/_-]{{{LEAST * 4 // 3},}}")
_HEX = re.compile(rf"(?:[0-9a-fA-F]{{2}}){{{LEAST},}}")
_INTEGERS = re.compile(rf"(?:\b(?:0[xX][0-9a-fA-F]{{1,2}}|\d{{1,3}})\b[\s,()\[\]]*){{{LEAST},}}")
_READABLE = re.compile(rb"[\t\n\r -~]{%d,}" % LEAST)
# How compressed bytes begin -> what opens them.
_COMPRESSED = {
    b"\x78": zlib.decompressobj,
    b"\x1f\x8b\x08": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
}
_MOST = 1 << 20  # bytes of one piece, decompressed


def unpacked(text: str) -> Iterator[str]:
    """Yield every readable piece that a text hides, the same one perhaps more than once."""
    for pieces in (text, "".join(constants(text))):
        for data in _decoded(_APART.sub("", pieces)):
            yield from _readable(data)
    for run in _INTEGERS.finditer(text):
        numbers = [int(number, 0) for number in re.findall(r"0[xX][0-9a-fA-F]+|[1-9]\d*|0", run[0])]
        yield from _readable(bytes(number & 255 for number in numbers))


def constants(text: str) -> list[str]:
    """Return the strings and bytes of a Python source in its order, as the program sees them: without escapes."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []  # prose, or a cell with a magic
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))]
    found.sort(key=lambda node: (node.lineno, node.col_offset))
    return [node.value if isinstance(node.value, str) else node.value.decode("latin-1") for node in found]


def _decoded(joined: str) -> Iterator[bytes]:
    """Letters of a neighbour may stand before the first piece, so that every offset is tried."""
    for run in _HEX.findall(joined):
        yield from (bytes.fromhex(run[first : first + (len(run) - first) // 2 * 2]) for first in range(2))
    for run in _BASE64.findall(joined):
        run = run.replace("-", "+").replace("_", "/")
        yield from (base64.b64decode(run[first : first + (len(run) - first) // 4 * 4]) for first in range(4))


def _readable(data: bytes) -> Iterator[str]:
    for content in (data, *_decompressed(data)):
        yield from (piece.decode() for piece in _READABLE.findall(content))


def _decompressed(data: bytes) -> Iterator[bytes]:
    for start, opener in _COMPRESSED.items():
        at = data.find(start)
        while at >= 0:
            with contextlib.suppress(zlib.error, lzma.LZMAError, OSError):  # it only looked like a beginning
                yield opener().decompress(data[at:], _MOST)
            at = data.find(start, at + 1)
