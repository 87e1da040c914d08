"""The course's own rules, in one small TOML file that the kit reads and never writes: so a regrade keeps them.

[late]
due = 2026-03-01T23:59:00-05:00     # with an offset: a submission's time has one too
grace_minutes = 10
percent_per_day = 10                # of the points earned, for each day begun
max_percent = 50

[[extension]]
student = "1234567"
due = 2026-03-04T23:59:00-05:00

[[override]]
student = "7654321"
points = 88                         # the final grade; with `task` the points of that task, before any penalty
was = 71                            # the grade this was decided upon: when a regrade changes it, you are told
reason = "the box loss is right up to its sign"
"""

import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from autograder.errors import KitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DAY = timedelta(days=1)
_MOST = 1_000_000  # of points, percent or minutes; minutes beyond a hundred million are no time span in Python


@dataclass(frozen=True)
class Late:
    """What a late submission costs."""

    due: datetime
    grace_minutes: Decimal = Decimal(0)
    percent_per_day: Decimal = Decimal(0)
    max_percent: Decimal = Decimal(100)

    def days(self, submitted: datetime, due: datetime) -> int:
        """Return the days begun between the end of the grace and the submission; 0 when in time.

        A day is counted from `due`, so the grace lets nobody hand in the second day at the price of the first.
        """
        over = submitted - due
        if over <= timedelta(minutes=float(self.grace_minutes)):
            return 0
        return -(-over // _DAY)

    def percent(self, days: int) -> Decimal:
        """Return the share of the points that so many days cost, in percent."""
        return min(self.percent_per_day * days, self.max_percent)


@dataclass(frozen=True)
class Override:
    """A person's decision about one student."""

    student: str
    points: Decimal
    task: str | None = None
    was: Decimal | None = None
    reason: str = ""


@dataclass
class Rules:
    """All rules of a course.

    Attributes:
        late: None when lateness costs nothing.
        extensions: student -> another due time.
        overrides: student -> decisions, in the order of the file.
    """

    late: Late | None = None
    extensions: dict[str, datetime] = field(default_factory=dict)
    overrides: dict[str, list[Override]] = field(default_factory=dict)


_KEYS = {
    "": {"late", "extension", "override"},
    "late": {"due", "grace_minutes", "percent_per_day", "max_percent"},
    "extension": {"student", "due"},
    "override": {"student", "points", "task", "was", "reason"},
}
_NEEDED = {"": set(), "late": {"due"}, "extension": {"student", "due"}, "override": {"student", "points"}}


def load_rules(path: Path | None) -> Rules:
    """Read the rules.

    Args:
        path: of the TOML file; None for no rules.

    Raises:
        KitError: no such file, not TOML, or a key that is missing, unknown, or not what it should be.
    """
    if path is None:
        return Rules()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KitError(f"{path}: not TOML ({error})") from None
    _check(path, "", raw)
    rules = Rules()
    if "late" in raw:
        row = _check(path, "late", raw["late"])
        numbers = {key: _number(path, "late", key, row[key]) for key in sorted(row.keys() - {"due"})}
        rules.late = Late(_time(path, "late", row["due"]), **numbers)
    for row in _rows(path, raw, "extension"):
        if rules.late is None:
            raise KitError(f"{path}: [[extension]] without [late]: there is nothing to extend")
        student = _text(path, "extension", "student", row["student"])
        if student in rules.extensions:
            raise KitError(f"{path}: two extensions for student {student!r}")
        rules.extensions[student] = _time(path, "extension", row["due"])
    for row in _rows(path, raw, "override"):
        texts = {key: _text(path, "override", key, row[key]) for key in ("student", "task", "reason") if key in row}
        numbers = {key: _number(path, "override", key, row[key]) for key in ("points", "was") if key in row}
        one = Override(**texts, **numbers)
        others = rules.overrides.setdefault(one.student, [])
        if any(other.task == one.task for other in others):
            raise KitError(f"{path}: two overrides of {one.task or 'the grade'} for student {one.student!r}")
        others.append(one)
    return rules


def _rows(path: Path, raw: dict, name: str) -> list[dict]:
    rows = raw.get(name, [])
    if not isinstance(rows, list):
        raise KitError(f"{path}: write [[{name}]] with two brackets")
    return [_check(path, name, row) for row in rows]


def _check(path: Path, name: str, row) -> dict:
    where = f"[{name}]" if name else "the file"
    if not isinstance(row, dict):
        raise KitError(f"{path}: {name} is not a table")
    if unknown := sorted(row.keys() - _KEYS[name]):
        raise KitError(f"{path}: {where} has no key {unknown[0]!r}; the keys are {', '.join(sorted(_KEYS[name]))}")
    if missing := sorted(_NEEDED[name] - row.keys()):
        raise KitError(f"{path}: {where} needs {missing[0]!r}")
    return row


def _number(path: Path, name: str, key: str, value) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise KitError(f"{path}: [{name}] {key} = {value!r}: a number is needed")
    most = 100 if key == "max_percent" else _MOST
    if not 0 <= value <= most:
        raise KitError(f"{path}: [{name}] {key} = {value!r}: at least 0 and at most {most}")
    return Decimal(str(value))


def _text(path: Path, name: str, key: str, value) -> str:
    if not isinstance(value, str) or not value.strip():
        raise KitError(f"{path}: [{name}] {key} = {value!r}: a text in quotes is needed")
    return value.strip()


def _time(path: Path, name: str, value) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise KitError(f"{path}: [{name}] due = {value}: a time with an offset is needed, 2026-03-01T23:59:00-05:00")
    return value
