"""The gate of `kit release`: looks into what students receive for what only the course may know.

Code is compared token by token, so other spaces, line breaks, quotes, comments or indentation hide nothing, and it is
looked for everywhere: in cells, outputs, metadata, strings, comments, archives inside, and bytes written as text. Other
names do not hide a few lines of a solution, only a single one. Beyond this is what somebody has reworded, and what is
shorter than a run of tokens: such pieces stand in everybody's code.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tools.confidential import (
    DISGUISED_RUN,
    NUMBERS_IN_A_ROW,
    Secrets,
    as_printed,
    commented_out,
    header_text,
    runs,
    safetensors_header,
    strings,
    without_names,
)
from tools.packed import constants, unpacked

_NUMBER = re.compile(r"-?\d+\.\d{4,}(?:e[-+]?\d+)?")
_TEXT = {".py", ".md", ".txt", ".toml", ".ini", ".json", ".ipynb", ""}  # kinds of files that can be looked into
# Base64 or the like, in one piece or in several: anything may be in it, encrypted even.
_PACKED = re.compile(
    r"""[A-Za-z0-9+/]{180,}|(?:[A-Za-z0-9+/]{60,}={0,2}[\s"',()\[\]\\]+){2}[A-Za-z0-9+/]{60,}"""
    r"""|(?:[A-Za-z0-9+/]{24,}={0,2}[\s"',()\[\]\\]+){6}"""
)
_RESULTS = re.compile(r"(?:tasks|submission)_sha256\W{1,9}[0-9a-f]{16}|<!doctype html", re.IGNORECASE)


def check_zip(path: Path, allowed: set[str], secrets: Secrets) -> list[str]:
    """Look for what must not leave the house in a finished archive.

    Args:
        path: of the zip.
        allowed: names of everything that may be in it.
        secrets: what must not be found.

    Returns:
        "name: what was found"; empty when nothing was.
    """
    found: dict[str, None] = {}
    with zipfile.ZipFile(path) as archive:
        if archive.comment:
            found["the zip itself: a comment"] = None
        for entry in archive.infolist():
            name = entry.filename
            if name not in allowed:
                found[f"{name}: is not on the list of what students receive, tools/handed_out.txt"] = None
            if entry.comment or entry.extra:
                found[f"{name}: a comment or other data beside the file"] = None
            for leak in find_leaks(name, archive.read(entry), secrets):
                found[f"{name}: {leak}"] = None
    return list(found)


def find_leaks(name: str, content: bytes, secrets: Secrets) -> Iterator[str]:
    """Yield what is found in one file; the same thing may come more than once."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        yield "an archive in the archive"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                for leak in find_leaks(entry.filename, archive.read(entry), secrets):
                    yield f"{entry.filename}: {leak}"
        return
    if (digest := hashlib.sha256(content).hexdigest()) in secrets.files:
        yield secrets.files[digest]
    yield from (what for tensor, what in secrets.tensors.items() if tensor in content)
    suffix = Path(name).suffix
    try:
        if suffix == ".safetensors":
            texts = [header_text(content), *strings(safetensors_header(content)[0])]
        elif suffix in (".ipynb", ".json"):
            document = json.loads(content)
            texts = [content.decode("utf-8"), *strings(document)]
            cells = document.get("cells", ()) if isinstance(document, dict) else ()
            if any(cell.get("outputs") or cell.get("attachments") for cell in cells):
                yield "a cell with an output or an attachment"
        elif suffix in _TEXT:
            texts = [content.decode("utf-8")]
        else:
            yield "a kind of file that cannot be looked into"
            return
    except ValueError:  # of json, of UTF-8
        yield "cannot be read"
        return
    for text in texts:
        for one in (text, *_as_seen(text), *unpacked(text)):
            yield from _leaks_in_text(one, secrets)


def _leaks_in_text(text: str, secrets: Secrets) -> Iterator[str]:
    for view in commented_out(text):
        for size in secrets.sizes:
            yield from (secrets.runs[run] for run in runs(view, size) if run in secrets.runs)
        nameless = runs(without_names(view), DISGUISED_RUN)
        yield from (secrets.disguised[run] for run in nameless if run in secrets.disguised)
    yield from (secrets.names[word] for word in re.findall(r"\w+", text) if word in secrets.names)
    printed = [as_printed(float(number)) for number in _NUMBER.findall(text)]
    yield from (secrets.numbers[run] for run in runs(printed, NUMBERS_IN_A_ROW) if run in secrets.numbers)
    if _PACKED.search(text):
        yield "a block of letters and digits that cannot be looked into"
    if _RESULTS.search(text):
        yield "a result or a report of somebody's grading"


def _as_seen(text: str) -> list[str]:
    """The strings of a Python source that the program sees otherwise than they stand there: escaped, in pieces."""
    return [value for value in constants(text) if value not in text]
