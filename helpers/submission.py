"""The zip that is handed in: made, described by a manifest with hashes, opened again and verified."""

import hashlib
import io
import json
import re
import tokenize
import unicodedata
import zipfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

STUDENT_FILES = ("common.py", "one_stage_detector.py")
WEIGHTS_NAME = "fcos_detector.pt"
NOTEBOOK_NAME = "one_stage_detector.ipynb"
MEGABYTE = 2**20
# What the grader would refuse as well, so that a student hears of it before the deadline and not after.
SIZE_LIMITS = {".py": 1 * MEGABYTE, ".ipynb": 30 * MEGABYTE, ".pt": 200 * MEGABYTE}
STUDENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,31}")
MAX_GROUP = 5  # students whose ids together are the name of one file
CONFLICT = re.compile(rb"^(<{7}|>{7})", re.MULTILINE)


class SubmissionError(ValueError):
    """The zip cannot be made, or is not what it should be; the message lists every reason."""


def read_identity(name: str = "", student_id: str = "", ask: Callable[[str], str] | None = None) -> tuple[str, str]:
    """Validate a name and a student id, and ask for what is missing.

    Args:
        name: as in the class list, any script.
        student_id: 2 to 32 letters, digits, dots, dashes or underscores; it becomes part of a file name. Of a group,
            those of all its members with a + between.
        ask: called with a question, returns the answer; `None` asks with `input`.

    Returns:
        (name, student_id) without surrounding or doubled spaces, the ids of a group in alphabetical order.

    Raises:
        SubmissionError: one of them is not valid, or is missing with nobody there to answer.
    """
    ask = ask or input
    try:
        name = " ".join((name or ask("Your name, as in the class list: ")).split())
        student_id = (student_id or ask("Your student id: ")).strip()
    except (NotImplementedError, EOFError) as error:  # a notebook that runs with nobody in front of it
        raise SubmissionError("Fill in NAME and STUDENT_ID at the top of this cell, then run it again.") from error
    if not 1 <= len(name) <= 80 or any(unicodedata.category(letter).startswith("C") for letter in name):
        raise SubmissionError(f"NAME = {name!r}: 1 to 80 printable letters, please")
    ids = sorted({one.strip() for one in student_id.split("+")})
    if len(ids) > MAX_GROUP or not all(map(STUDENT_ID.fullmatch, ids)):
        raise SubmissionError(
            f"STUDENT_ID = {student_id!r}: 2 to 32 letters, digits, '.', '-' or '_', the first a letter or digit; "
            f"of a group of up to {MAX_GROUP}, the ids of all with '+' between"
        )
    return name, "+".join(ids)


def make_submission(
    folder: str | Path,
    name: str,
    student_id: str,
    notebook: str | Path | None = None,
    weights: str | Path | None = None,
    output_dir: str | Path | None = None,
) -> Path:
    """Write `<student_id>_fcos.zip`, open it again and compare every byte with its manifest.

    Args:
        folder: holds `common.py` and `one_stage_detector.py`.
        name: of the student.
        student_id: of the student, or those of a group with a + between.
        notebook: the executed notebook, or `None` to leave it out.
        weights: a state dict saved with `torch.save`, or `None` to leave it out.
        output_dir: where the zip goes; `None` for `folder`.

    Returns:
        The path of the zip.

    Raises:
        SubmissionError: a name, an id or a file that the grader would refuse; all reasons at once, and no zip is left.
    """
    name, student_id = read_identity(name, student_id)
    folder = Path(folder)
    sources = {file: folder / file for file in STUDENT_FILES}
    if notebook is not None:
        sources[NOTEBOOK_NAME] = Path(notebook)
    if weights is not None:
        sources[WEIGHTS_NAME] = Path(weights)
    problems = [problem for file, path in sources.items() for problem in _problems(file, path)]
    if problems:
        raise SubmissionError("Not ready to hand in:\n" + "\n".join(f"  - {problem}" for problem in problems))

    contents = {file: path.read_bytes() for file, path in sources.items()}
    manifest = {
        "assignment": "fcos",
        "format": 1,
        "name": name,
        "student_ids": student_id.split("+"),
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": {file: _fingerprint(content) for file, content in contents.items()},
    }
    if notebook is not None:
        manifest["notebook_has_outputs"] = any(
            cell.get("outputs") for cell in json.loads(contents[NOTEBOOK_NAME])["cells"]
        )
    contents["manifest.json"] = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
    path = Path(output_dir or folder) / f"{student_id}_fcos.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in contents.items():
            archive.writestr(file, content)
    try:
        verify_submission(unfinished)
    except SubmissionError:
        unfinished.unlink()
        raise
    unfinished.replace(path)  # an older zip is replaced only by a good one
    return path


def verify_submission(path: str | Path) -> dict:
    """Open a zip of `make_submission` and compare what is inside with its manifest.

    Args:
        path: of the zip.

    Returns:
        The manifest.

    Raises:
        SubmissionError: not a zip, damaged, or not what the manifest says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {file: archive.read(file) for file in archive.namelist()}
        manifest = json.loads(contents.pop("manifest.json"))
        listed = manifest["files"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SubmissionError(f"{path} is not a complete submission ({error}); make it again") from error
    found = {file: _fingerprint(content) for file, content in contents.items()}
    missing = [file for file in STUDENT_FILES if file not in found]
    differing = sorted(file for file in found.keys() | listed.keys() if found.get(file) != listed.get(file))
    if missing or differing:
        raise SubmissionError(f"{path} does not hold what its manifest lists: {', '.join(missing + differing)}")
    return manifest


def describe_submission(path: str | Path) -> str:
    """List what is in a zip, verified.

    Args:
        path: of the zip.

    Returns:
        A few lines of text: the file, whom it belongs to, each entry with its size.

    Raises:
        SubmissionError: as `verify_submission`.
    """
    manifest = verify_submission(path)
    rows = [f"  {file:<26} {entry['bytes'] / 1024:10.1f} KiB" for file, entry in manifest["files"].items()]
    head = f"{path}\n  of {manifest['name']} ({', '.join(manifest['student_ids'])}), opened again and complete:"
    if not manifest.get("notebook_has_outputs", True):
        rows.append("  The notebook was saved without its outputs: save it (Ctrl+S) and run this cell again.")
    return "\n".join([head, *rows])


def _problems(file: str, path: Path) -> list[str]:
    """What the grader would refuse about one file."""
    if not path.is_file():
        return [f"{file} is missing: expected at {path}"]
    size, limit = path.stat().st_size, SIZE_LIMITS[Path(file).suffix]
    if not 0 < size <= limit:
        return [f"{file} has {size / MEGABYTE:.1f} MB; it must not be empty nor larger than {limit // MEGABYTE} MB"]
    check = {".py": _python_problems, ".ipynb": _notebook_problems, ".pt": _weights_problems}[Path(file).suffix]
    return check(file, path)


def _python_problems(file: str, path: Path) -> list[str]:
    source = path.read_bytes()
    if conflict := CONFLICT.search(source):
        line = source[: conflict.start()].count(b"\n") + 1
        return [f"{file}, line {line}: a merge conflict is still in the file"]
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        compile(source.decode(encoding), file, "exec")
    except SyntaxError as error:
        return [f"{file}, line {error.lineno or 1}: {error.msg}"]
    except ValueError as error:  # undecodable bytes, or a null byte in the source
        return [f"{file} is not a Python text file: {error}"]
    return []


def _notebook_problems(file: str, path: Path) -> list[str]:
    try:
        json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError):
        return [f"{file} is not a notebook: save it (Ctrl+S) and run this cell again"]
    return []


def _weights_problems(file: str, path: Path) -> list[str]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds, and for the student they are all one
        return [
            f"{file} cannot be loaded as weights ({type(error).__name__}); save it with torch.save(state_dict, path)"
        ]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        return [f"{file} must hold a state dict, which is what detector.state_dict() returns"]
    return []


def _fingerprint(content: bytes) -> dict:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
