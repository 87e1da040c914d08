"""Works out every student's grade from the results, the course's rules and what is known of the submissions.

The grade depends on these alone, never on the clock: the same files give the same grades next year.
"""

from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from autograder.desk.results import ClassResults
from autograder.errors import KitError
from autograder.gradebook.people import People
from autograder.gradebook.rules import Override, Rules
from autograder.gradebook.sheet import csv_text


@dataclass
class Grade:
    """One student's grade.

    Attributes:
        student: id.
        submission: id of the results that it comes from.
        tasks: task id -> points, with what a person decided about tasks.
        total: their sum.
        days: late, each begun day counts.
        percent: of the total, that these cost.
        points: the grade.
        mean_ap: of the trained detector, in percent; None where it was not measured. No points depend on it here.
        override: why a person decided otherwise; "" where nobody did.
        remarks: for the instructor.
    """

    student: str
    submission: str
    tasks: dict[str, Decimal]
    total: Decimal
    days: int = 0
    percent: Decimal = Decimal(0)
    points: Decimal = Decimal(0)
    mean_ap: Decimal | None = None
    override: str = ""
    remarks: list[str] = field(default_factory=list)


@dataclass
class Gradebook:
    """All grades.

    Attributes:
        grades: student -> grade.
        conflicts: student -> why there is no grade: two submissions give two, and nobody has decided.
        notes: what the instructor should know, one line each.
        max_total: points that can be had.
    """

    max_total: Decimal
    grades: dict[str, Grade] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def make_gradebook(results: ClassResults, rules: Rules, people: People) -> Gradebook:
    """Work out all grades.

    Raises:
        KitError: an override or an extension names somebody or something that is not in the results, or lateness costs
            points and no time is known.
    """
    book = Gradebook(_decimal(results.max_total))
    known = {one["id"] for one in results.students}
    for submission in people.members:
        if submission not in known:
            book.notes.append(f"{submission}: has members, but no results")
    for submission in sorted(people.submitted.keys() - people.members.keys() - known):
        book.notes.append(f"{submission}: has a time, but no results")
    _check(results, rules, people)
    for one in results.students:
        for student in people.of(one):
            grade = _grade(one, student, rules, people, book.notes)
            if one["seed"] is None:
                book.notes.append(f"{student}: {figure(grade.points)} points, {grade.remarks[0]}")
            other = book.grades.get(student)
            if other is None:
                book.grades[student] = grade
            elif other.points != grade.points:
                book.conflicts[student] = (
                    f"{other.submission} gives {figure(other.points)}, {grade.submission} gives {figure(grade.points)}"
                )
            else:
                book.notes.append(f"{student}: in {other.submission} and in {grade.submission}, with the same grade")
    for student in book.conflicts:
        del book.grades[student]
    if rules.late is not None:
        book.notes += _without_time(results, people)
    if results.incomplete:
        book.notes.append(f"not the whole class: {results.incomplete}")
    for one in results.summary.get("not_graded", []):
        book.notes.append(f"{one['id']}: handed in, not graded ({one['reason']})")
    return book


def _check(results: ClassResults, rules: Rules, people: People) -> None:
    students = {student for one in results.students for student in people.of(one)}
    tasks = {task["id"] for task in results.tasks}
    for what, named in (("extension", rules.extensions), ("override", rules.overrides)):
        if unknown := sorted(named.keys() - students):
            raise KitError(f"{what} of {unknown[0]!r}: no such student in {results.folder}; correct or remove it")
    for student, overrides in rules.overrides.items():
        for one in overrides:
            if one.task is not None and one.task not in tasks:
                raise KitError(
                    f"override of {student!r}: no task {one.task!r}; the tasks are {', '.join(sorted(tasks))}"
                )
    if rules.late is not None and not any(one["id"] in people.submitted for one in results.students):
        raise KitError("[late] needs the times of the submissions: add --times CSV or --metadata FILE")


def _grade(one: dict, student: str, rules: Rules, people: People, notes: list[str]) -> Grade:
    tasks = {row["id"]: _decimal(row["points"]) for row in one["tasks"]}
    overrides = {override.task: override for override in rules.overrides.get(student, [])}
    reasons = []
    for task, override in overrides.items():
        if task is not None:
            _compare(override, tasks[task], f"task {task} of {student}", notes)
            tasks[task] = override.points
            reasons.append(f"task {task}: {override.reason or 'by hand'}")
    grade = Grade(student, one["id"], tasks, sum(tasks.values(), Decimal(0)))
    if "mAP" in one["measures"]:
        grade.mean_ap = 100 * _decimal(one["measures"]["mAP"])
    if one["seed"] is None:
        grade.remarks.append(f"could not be taken in: {one['notes'][0] if one['notes'] else ''}")
    _penalize(grade, one, rules, people)
    grade.points = _rounded(grade.total * (100 - grade.percent) / 100)
    if final := overrides.get(None):
        _compare(final, grade.points, student, notes)
        grade.points = _rounded(final.points)
        reasons.append(final.reason or "by hand")
    grade.override = "; ".join(reasons)
    return grade


def _penalize(grade: Grade, one: dict, rules: Rules, people: People) -> None:
    if rules.late is None:
        if one["late"]:
            grade.remarks.append("marked late; no rule makes that cost anything")
        return
    submitted = people.submitted.get(one["id"])
    if submitted is None:
        grade.remarks.append("no time of submission: no late penalty" + (", though marked late" if one["late"] else ""))
        return
    grade.days = rules.late.days(submitted, rules.extensions.get(grade.student, rules.late.due))
    grade.percent = rules.late.percent(grade.days)


def _without_time(results: ClassResults, people: People) -> list[str]:
    names = [
        f"{one['id']} (marked late)" if one["late"] else one["id"]
        for one in results.students
        if one["id"] not in people.submitted
    ]
    return [f"no time of submission, so no late penalty: {', '.join(names)}"] if names else []


def _compare(override: Override, now: Decimal, what: str, notes: list[str]) -> None:
    if override.was is not None and override.was != now:
        notes.append(
            f"{what}: overridden with {figure(override.points)} when it was {figure(override.was)}; "
            f"it would be {figure(now)} now, look again"
        )


def gradebook_csv(book: Gradebook) -> str:
    """Return all grades as CSV, one row for each student, those without a grade too."""
    tasks = list(next(iter(book.grades.values())).tasks) if book.grades else []
    head = ["student", "submission", *tasks, "total", "days_late", "penalty_percent", "points", "max_points"]
    measured = any(one.mean_ap is not None for one in book.grades.values())
    rows: list[list] = [[*head, *(["mAP_percent"] if measured else []), "override", "remarks"]]
    for student in sorted(book.grades | book.conflicts, key=lambda name: (name.casefold(), name)):
        if student in book.conflicts:
            nothing, most = [""] * (len(head) - 2), figure(book.max_total)
            rows.append([student, *nothing, most, *[""] * measured, "", book.conflicts[student]])
            continue
        one = book.grades[student]
        numbers = [*one.tasks.values(), one.total, one.days, one.percent, one.points, book.max_total]
        cells = [_Number(figure(Decimal(number))) for number in numbers]
        if measured:
            cells.append("" if one.mean_ap is None else _Number(figure(one.mean_ap)))
        rows.append([student, one.submission, *cells, one.override, "; ".join(one.remarks)])
    return csv_text(rows)


class _Number:
    """A number that is written as it stands: a negative one is no formula."""

    def __init__(self, text: str):
        self._text = text

    def __str__(self) -> str:
        return self._text


def figure(value: Decimal) -> str:
    """Return a number as a person writes it: 7, 7.5, 66.67."""
    text = f"{_rounded(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _decimal(value: float) -> Decimal:
    return Decimal(str(value))
