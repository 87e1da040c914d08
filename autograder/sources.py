"""Says in words why Python cannot read a source file. It looks at bytes only; nothing of a submission is compiled."""

import codecs
import io
import re
import tokenize

_CONFLICT = re.compile(rb"^(?:<{7}|>{7}) ", re.MULTILINE)


def source_problem(name: str, content: bytes) -> str | None:
    """Look for what makes a file unreadable though its author sees nothing wrong.

    Byte order marks, Windows line ends, tabs and a declared encoding are fine: Python reads them.

    Args:
        name: of the file, for the message.
        content: its bytes.

    Returns:
        One line with file, line and remedy, or None.
    """
    if not content.strip():
        return f"{name}: the file is empty"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"{name}, line 1: saved as UTF-16; save it as UTF-8"
    if content.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{") and b'"cells"' in content:
        return f"{name}, line 1: a notebook, not a Python file; export its code as a script and hand that in"
    if content.startswith(b"PK\x03\x04"):
        return f"{name}, line 1: an archive, not a Python file"
    conflict = _CONFLICT.search(content)
    if conflict:
        return f"{name}, line {_line(content, conflict.start())}: a merge conflict is still in the file"
    if b"\0" in content:
        return f"{name}, line {_line(content, content.index(0))}: a null byte; this is not a text file"
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except SyntaxError as error:
        if "invalid or missing encoding" not in str(error):
            return f"{name}, line 1: an encoding that Python does not know ({error.msg}); save it as UTF-8"
        encoding = "utf-8"
    if encoding.startswith("utf-8"):
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            return (
                f"{name}, line {_line(content, error.start)}: the byte 0x{content[error.start]:02x} is not UTF-8; "
                "save the file as UTF-8, or name its encoding in line 1: # -*- coding: latin-1 -*-"
            )
    return None


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
