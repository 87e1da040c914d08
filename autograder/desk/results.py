"""Reads the results of a class from disk, refuses files that are not whole, and says when the class is not."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from autograder.desk.checks import pictures_problem, results_problem, summary_problem
from autograder.errors import KitError
from autograder.held_out import PICTURES


@dataclass
class ClassResults:
    """The results of a class.

    Attributes:
        folder: that was read.
        students: results in the format of `autograder.grade.grade`, sorted by id; each has "id", "submission", "late",
            "submission_sha256", "members" and "file", the name of its file without the suffix.
        summary: what `summary.json` beside them says about files that were not graded; empty without one.
        pictures: held-out images that detectors were measured on, a few, with their truth; none where none were.
        incomplete: why these may not be the results of the whole class, and the remedy; empty when they are.
    """

    folder: Path
    students: list[dict]
    summary: dict = field(default_factory=dict)
    pictures: list[dict] = field(default_factory=list)
    incomplete: str = ""

    @property
    def tasks(self) -> list[dict]:
        """The tasks: {"id", "title", "max_points"}, as every student's results have them."""
        return [{key: row[key] for key in ("id", "title", "max_points")} for row in self.students[0]["tasks"]]

    @property
    def max_total(self) -> int:
        """Points that can be had."""
        return self.students[0]["max_total"]


def load_class(path: Path) -> ClassResults:
    """Read the results of a class.

    Args:
        path: the folder that `kit grade-class --out` wrote, or its folder `results`.

    Returns:
        The results; at least one student's.

    Raises:
        KitError: no such folder, no results in it, one of them broken or two of the same student, or results that
            cannot be compared because they were graded with different tables of tasks or options.
    """
    if not path.is_dir():
        raise KitError(f"{path}: no such folder; name the one that kit grade-class wrote")
    folder = path / "results" if (path / "results").is_dir() else path
    beside = folder.parent if folder.name == "results" else folder
    others = {beside / "summary.json", beside / PICTURES}
    files = sorted(file for file in folder.glob("*.json") if file not in others and not file.name.startswith("."))
    if not files:
        raise KitError(f"{path}: holds no results; write some with: kit grade-class FOLDER --out {path}")
    students = sorted((load_student(file) for file in files), key=lambda one: (one["id"].casefold(), one["id"]))
    first = students[0]
    for before, one in itertools.pairwise(students):
        if before["id"] == one["id"]:
            raise KitError(f"{folder}: {before['file']}.json and {one['file']}.json are both of student {one['id']!r}")
        if _kind(one) != _kind(first):
            raise KitError(
                f"{folder}: {one['file']}.json was graded with another table of tasks or other options than "
                f"{first['file']}.json; grade the class again into a new folder"
            )
    pictures = _load_other(beside / PICTURES, pictures_problem)
    summary = _load_other(beside / "summary.json", summary_problem)
    same = first["held_out"] is not None and first["held_out"].get("sha256") == pictures.get("sha256")
    incomplete = _why_incomplete(beside, folder, len(students), summary)
    return ClassResults(path, students, summary, pictures.get("pictures", []) if same else [], incomplete)


def _why_incomplete(beside: Path, folder: Path, found: int, summary: dict) -> str:
    go_on = f"go on with: kit grade-class CLASS --out {beside} --resume"
    if _is_locked(beside / ".lock"):
        return "a run is writing there; wait until it ends"
    if any(folder.glob(".*.part")):
        return f"a run was stopped while it wrote there; {go_on}"
    if not summary:
        return f"there is no summary.json, so a run was stopped; {go_on}"
    if not summary.get("complete", True):
        return f"only {summary.get('graded')} of {summary.get('submissions')} submissions have results; {go_on}"
    if summary.get("graded") != found:
        counts = f"summary.json counts {summary.get('graded')} results and {found} are there"
        return f"{counts}; {go_on}, and move away those of submissions that are gone"
    return ""


def _is_locked(path: Path) -> bool:
    """Whether a run holds the lock of `autograder.batch.ResultStore`."""
    try:
        import fcntl
    except ImportError:  # not on Windows, where nothing is graded but one's own
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no run was ever there
        return False
    return False


def load_student(path: Path) -> dict:
    """Read one student's results.

    Raises:
        KitError: not whole, or not a result of this kit.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise KitError(f"{path}: not a whole JSON file; move it away and run kit grade-class --resume") from None
    problem = results_problem(results)
    if problem:
        raise KitError(f"{path}: not a result of kit grade-class ({problem}); move it away")
    defaults = {"id": path.stem, "submission": "", "late": False, "submission_sha256": "", "isolation": ""}
    defaults |= {"isolation_warning": "", "seed": 0, "notes": [], "flags": [], "versions": {}, "public_only": False}
    defaults |= {"members": [], "held_out": None, "measures": {}, "pictures": {}}
    return defaults | {"tasks_sha256": ""} | results | {"file": path.stem}


def _kind(results: dict) -> tuple:
    tasks = tuple(row["id"] for row in results["tasks"])
    return results["tasks_sha256"], results["public_only"], tasks, results["held_out"]


def _load_other(path: Path, find_problem: Callable[[object], str]) -> dict:
    """Read what stands beside the results; empty where it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        problem = find_problem(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        problem = "not a whole JSON file"
    if problem:
        raise KitError(f"{path}: {problem}; write it again with kit grade-class --resume")
    return content
