"""Who handed in what, and when: from the results, a CSV, or Gradescope's metadata."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from autograder.errors import KitError
from autograder.gradebook.sheet import read_table

_SUBMISSION = ("submission", "id", "submission id")
_STUDENT = ("student", "student id", "sid")
_TIME = ("submitted", "submission time", "created_at")


@dataclass
class People:
    """What is known of submissions beside their results.

    Attributes:
        members: id of a submission's results -> ids of its students.
        submitted: id of a submission's results -> when it was handed in.
    """

    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    submitted: dict[str, datetime] = field(default_factory=dict)

    def of(self, results: dict) -> tuple[str, ...]:
        """Return the students of a submission: those that were read here, those of its manifest, or else its id."""
        return self.members.get(results["id"]) or tuple(results["members"]) or (results["id"],)


def load_people(groups: Path | None = None, times: Path | None = None, metadata: Path | None = None) -> People:
    """Read what was given.

    Args:
        groups: CSV with the columns `submission` and `student`, one row for each student.
        times: CSV with the columns `submission` and `submitted`, a time with its offset from UTC.
        metadata: Gradescope's `submission_metadata.json`, or the `submission_metadata.yml` of an export.

    Raises:
        KitError: a file that is missing or is not what it should be.
    """
    people = People()
    if metadata is not None:
        _read_metadata(metadata, people)
    if groups is not None:
        listed: dict[str, dict[str, None]] = {}
        for row in read_table(groups, {"submission": _SUBMISSION, "student": _STUDENT}):
            if not row["submission"] or not row["student"]:
                raise KitError(f"{groups}: a row without a submission or a student: {row}")
            listed.setdefault(row["submission"], {})[row["student"]] = None
        people.members |= {submission: tuple(students) for submission, students in listed.items()}
    if times is not None:
        listed_times: dict[str, datetime] = {}
        for row in read_table(times, {"submission": (*_SUBMISSION, *_STUDENT), "submitted": _TIME}):
            if row["submitted"]:  # Gradescope lists those who handed in nothing, too
                time = _time(times, row["submitted"])
                if listed_times.setdefault(row["submission"], time) != time:
                    raise KitError(f"{times}: {row['submission']} was handed in at two times; leave one row")
        people.submitted |= listed_times
    return people


def _read_metadata(path: Path, people: People) -> None:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        # One submission in the autograder's container, all of them in an export.
        entries = {str(raw["id"]): raw} if "users" in raw else raw
        for name, entry in entries.items():
            submission = str(name).removeprefix("submission_").partition(".")[0]
            people_of = entry["users"] if "users" in entry else entry[":submitters"]
            students = [str(one.get(":sid") or one.get(":email") or one.get("email") or "") for one in people_of]
            if not students or not all(students):
                raise KitError(f"{path}: {name} has a student without an id and without an email address")
            people.members[submission] = tuple(dict.fromkeys(students))
            people.submitted[submission] = _time(
                path, entry["created_at"] if "users" in entry else entry[":created_at"]
            )
    except OSError as error:
        raise KitError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        raise KitError(f"{path}: not Gradescope's metadata of submissions") from None


def _time(path: Path, value: str | datetime) -> datetime:
    """Read a time; one without an offset would be another moment on another machine."""
    found = value if isinstance(value, datetime) else None
    for form in () if found else ("%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S %z",
                                  "%Y-%m-%d %H:%M:%S%z", "%Y-%m-%d %H:%M%z"):  # fmt: skip
        try:
            found = datetime.strptime(str(value), form)
            break
        except ValueError:
            continue
    if found is None or found.tzinfo is None:
        raise KitError(f"{path}: {str(value)!r}: a time with an offset is needed, 2026-03-01 23:59:00 -0500")
    return found
