"""Fills one column of a gradebook that Canvas or Moodle exported, and leaves every other byte as it was.

A new column title would create an assignment on import, and a score in the wrong row is a wrong grade: so columns and
students are matched exactly, and whatever does not match is reported and left alone.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from autograder.errors import KitError
from autograder.gradebook.grades import Gradebook, figure
from autograder.gradebook.sheet import Cell, Sheet

_CANVAS_IDS = ("SIS User ID", "ID", "SIS Login ID", "Integration ID")
_LEFT_ALONE = ("EX", "N/A")  # Canvas: the student is excused, or the assignment is not given to this student
_MOODLE_IDS = ("ID number", "Identifier", "Username", "Email address")
_MOODLE_OTHER = re.compile(  # columns that are no points, though they may hold numbers or nothing
    rf"{'|'.join(_MOODLE_IDS)}|.*\((Percentage|Letter|Feedback|submission|grade)\)|Last (modified|downloaded).*"
    r"|Maximum Grade|Grade can be changed|Feedback.*|(First|Last|Full) name|Surname|Institution|Department"
    r"|Status|Groups?",
    re.IGNORECASE,
)


@dataclass
class Filled:
    """What became of the students.

    Attributes:
        column: that was filled.
        by: column that they were matched by.
        new: students whose cell was empty.
        changed: student -> (old value, new value), where there was another one.
        same: students whose cell held this value already.
        locked: students who are excused, who do not have the assignment, or whose grade the platform does not let
            change; their cells stay.
        not_in_gradebook: students with a grade and no row.
        not_in_results: students with a row and no grade, as the export names them; their cells stay.
        notes: what could not be checked, one line each.
    """

    column: str
    by: str
    new: list[str] = field(default_factory=list)
    changed: dict[str, tuple[str, str]] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    not_in_gradebook: list[str] = field(default_factory=list)
    not_in_results: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fill_canvas(sheet: Sheet, book: Gradebook, column: str | None, by: str | None = None, scale=False) -> Filled:
    """Fill one column of a Canvas gradebook.

    Args:
        sheet: the export; changed in place.
        book: the grades.
        column: its title, with or without Canvas' number: "FCOS (1234)" or "FCOS".
        by: title of the column of ids; by default the one that most students are found in.
        scale: bring the points to the column's points possible.

    Raises:
        KitError: not an export of Canvas, no such column, a maximum that differs and `scale` is False, or nobody found.
    """
    sheet.column("Student")
    index = _canvas_column(sheet, column)
    firsts = [sheet.value(row, 0) for row in sheet.rows]
    if sheet.header[0] != "Student" or "Points Possible" not in firsts:
        raise KitError(f"{sheet.path}: no row 'Points Possible'; export the gradebook from Canvas as CSV")
    start = firsts.index("Points Possible")
    most = _number(sheet.value(sheet.rows[start], index))
    if most is None:
        raise KitError(
            f"{sheet.path}: column {sheet.header[index]!r} has no points possible; it is not an assignment's"
        )
    factor = _factor(sheet, book, most, scale)
    rows = [row for row in sheet.rows[start + 1 :] if sheet.value(row, 0) not in ("Student, Test", "Test Student")]
    ids = {title: [sheet.value(row, sheet.column(title)) for row in rows] for title in _present(sheet, _CANVAS_IDS, by)}
    return _fill(sheet, book, rows, ids, index, [factor] * len(rows), [cell.value for cell in sheet.rows[start]])


def fill_moodle(sheet: Sheet, book: Gradebook, column: str | None, by: str | None = None, scale=False) -> Filled:
    """Fill the grades of a Moodle grading worksheet, or one column of a Moodle gradebook.

    See `fill_canvas` for the arguments; without `column` it is "Grade", as a grading worksheet has it. A row that says
    "Grade can be changed: No" is left alone. Participants' numbers are matched with or without the word "Participant".
    """
    index = sheet.column(column or "Grade")
    if _MOODLE_OTHER.fullmatch(sheet.header[index]):
        raise KitError(f"{sheet.path}: column {sheet.header[index]!r} holds no points; name another with --column")
    rows, factors, unknown = sheet.rows, [], 0
    maximum = sheet.header.index("Maximum Grade") if "Maximum Grade" in sheet.header else None
    if maximum is None and scale:
        raise KitError(f"{sheet.path}: no column 'Maximum Grade' to scale to; leave out --scale")
    for row in rows:
        most = None if maximum is None else _number(sheet.value(row, maximum))
        if most is None and scale:
            raise KitError(f"{sheet.path}: a row of {sheet.header[maximum]!r} holds no number to scale to")
        unknown += most is None
        factors.append(Decimal(1) if most is None else _factor(sheet, book, most, scale))
    ids = {}
    for title in _present(sheet, _MOODLE_IDS, by):
        values = [sheet.value(row, sheet.column(title)) for row in rows]
        ids[title] = [re.sub(r"^\D+ (?=\d+$)", "", value) for value in values] if title == "Identifier" else values
    numbers = [] if maximum is None else [sheet.value(row, maximum) for row in rows]
    result = _fill(sheet, book, rows, ids, index, factors, numbers)
    if unknown:
        most = figure(book.max_total)
        result.notes.append(f"{unknown} rows do not tell their maximum grade; see that it is {most}, as in the results")
    return result


def _canvas_column(sheet: Sheet, wanted: str | None) -> int:
    assignments = [title for title in sheet.header if re.search(r" \(\d+\)$", title)]
    if wanted is None:
        raise KitError(f"{sheet.path}: name the column to fill with --column; there are: {', '.join(assignments)}")
    if wanted in assignments:
        return sheet.column(wanted)
    found = [title for title in assignments if re.sub(r" \(\d+\)$", "", title) == wanted]
    if len(found) != 1:
        what = "more than one assignment is" if found else "no assignment is"
        raise KitError(f"{sheet.path}: {what} called {wanted!r}; there are: {', '.join(assignments)}")
    return sheet.column(found[0])


def _present(sheet: Sheet, titles: tuple[str, ...], by: str | None) -> list[str]:
    if by is not None:
        sheet.column(by)
        return [by]
    present = [title for title in titles if title in sheet.header]
    if not present:
        raise KitError(f"{sheet.path}: no column of student ids ({', '.join(titles)}); name one with --by")
    return present


def _factor(sheet: Sheet, book: Gradebook, most: Decimal, scale: bool) -> Decimal:
    if book.max_total <= 0:
        raise KitError(f"{sheet.path}: no points can be had in the results; there is nothing to fill in")
    if most <= 0 and scale:
        raise KitError(f"{sheet.path}: {figure(most)} points are possible there: scaled to that, nobody would have any")
    if most != book.max_total and not scale:
        raise KitError(
            f"{sheet.path}: {figure(most)} points are possible there and {figure(book.max_total)} in the results; "
            "make them equal, or add --scale"
        )
    return most / book.max_total


def _fill(
    sheet: Sheet,
    book: Gradebook,
    rows: list[list[Cell]],
    ids: dict[str, list[str]],
    index: int,
    factors: list[Decimal],
    numbers: list[str],
) -> Filled:
    """Fill the column `index`; `numbers` and the grades that are there show how the platform writes a fraction."""
    comma = any(
        re.fullmatch(r"-?\d+,\d+", text.strip()) for text in [*numbers, *(sheet.value(row, index) for row in rows)]
    )
    for row in rows:
        if (old := sheet.value(row, index)) not in ("", "-", *_LEFT_ALONE) and _number(old) is None:
            raise KitError(f"{sheet.path}: column {sheet.header[index]!r} holds {old!r}; it is not a column of grades")
    by = _best(sheet, book, ids)
    result, seen = Filled(sheet.header[index], by), set()
    locked = sheet.header.index("Grade can be changed") if "Grade can be changed" in sheet.header else None
    for row, student, factor in zip(rows, ids[by], factors):
        seen.add(student)
        grade = book.grades.get(student) if student else None
        if grade is None:
            if student not in book.conflicts:
                result.not_in_results.append(student or sheet.value(row, 0))
            continue
        old, new = sheet.value(row, index), figure(grade.points * factor)
        if old in _LEFT_ALONE or (locked is not None and sheet.value(row, locked).casefold() == "no"):
            result.locked.append(student)
            continue
        if _number(old) == Decimal(new):
            result.same.append(student)
            continue
        sheet.fill(row, index, new.replace(".", ",") if comma else new)
        if old in ("", "-"):
            result.new.append(student)
        else:
            result.changed[student] = old, new
    result.not_in_gradebook = [student for student in [*book.grades, *book.conflicts] if student not in seen]
    return result


def _best(sheet: Sheet, book: Gradebook, ids: dict[str, list[str]]) -> str:
    """Return the column that finds most students; never two columns at once, for one's number may be another's name."""
    known = (book.grades.keys() | book.conflicts.keys()) - {""}
    found = {
        title: {place: value for place, value in enumerate(values) if value in known} for title, values in ids.items()
    }
    best = max(found, key=lambda title: len(found[title]))
    if not found[best]:
        raise KitError(f"{sheet.path}: nobody in {', '.join(ids)} is a student of the results")
    for title in found:
        if title != best and len(found[title]) == len(found[best]) and found[title] != found[best]:
            raise KitError(f"{sheet.path}: students could be matched by {best!r} or by {title!r}; choose with --by")
    values = list(found[best].values())
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise KitError(f"{sheet.path}: {', '.join(twice)} twice in column {best!r}")
    return best


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text.replace(",", "."))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None
