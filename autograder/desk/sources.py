"""Looks at what was handed in beside the results: what differs from the skeleton, and who handed in the same code."""

import contextlib
import difflib
import hashlib
from pathlib import Path

from autograder.desk.results import ClassResults
from autograder.errors import KitError
from autograder.fingerprint import fingerprint
from autograder.identity import find_submissions
from autograder.intake import SubmissionRefused, open_submission
from autograder.tasks import FILES, ROOT

MAX_LINES = 600  # of one file's difference; a page with 300 students must stay a page


def read_class(folder: Path, results: ClassResults) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Read the source of every student who has results.

    Args:
        folder: the class folder that was graded.
        results: of the class.

    Returns:
        Student id -> file name -> text, without those whose submission cannot be taken in; and the ids of students who
        have handed in something else since they were graded, whose code is left out too.

    Raises:
        KitError: no such folder, or not the one that was graded.
    """
    submissions = {one.id: one for one in find_submissions(folder, leave_out=results.folder).submissions}
    if not any(one["id"] in submissions for one in results.students):
        raise KitError(f"{folder}: holds no submission of the students in {results.folder}")
    found, stale = {}, []
    for one in results.students:
        if one["id"] not in submissions:
            continue
        handed_in = submissions[one["id"]].paths
        if one["submission_sha256"] and fingerprint(handed_in) != one["submission_sha256"]:
            stale.append(one["id"])
            continue
        with contextlib.suppress(SubmissionRefused), open_submission(handed_in) as intake:
            paths = [intake.folder / name for name in FILES if (intake.folder / name).is_file()]
            found[one["id"]] = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in paths}
    return found, stale


def code_digests(sources: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return student id -> a hash of the code, blind to blank lines and trailing space; skeletons are left out."""
    unchanged = _digest(skeleton())
    digests = {student: _digest(files) for student, files in sources.items()}
    return {student: digest for student, digest in digests.items() if digest != unchanged}


def differences(files: dict[str, str]) -> list[dict]:
    """Compare a submission with the skeleton.

    Args:
        files: file name -> text.

    Returns:
        {"file", "lines": [(kind, line)], "cut"} for each file that differs; kinds are "add", "del", "place", "same".
    """
    result = []
    for name, given in skeleton().items():
        lines = difflib.unified_diff(given.splitlines(), files.get(name, "").splitlines(), lineterm="", n=2)
        marked = [(_kind(line), line) for line in list(lines)[2:]]
        if marked:
            result.append({"file": name, "lines": marked[:MAX_LINES], "cut": max(0, len(marked) - MAX_LINES)})
    return result


def _kind(line: str) -> str:
    return {"+": "add", "-": "del", "@": "place"}.get(line[:1], "same")


def skeleton() -> dict[str, str]:
    """Return file name -> text of what every student starts from."""
    return {name: (ROOT / "assignment" / name).read_text(encoding="utf-8") for name in FILES}


def _digest(files: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        digest.update("\n".join([name, *lines, ""]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
