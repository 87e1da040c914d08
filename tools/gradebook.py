"""`kit gradebook`: grades from results and rules, as a CSV of its own or in one column of Canvas' or Moodle's."""

from pathlib import Path

from autograder.batch import write_whole
from autograder.desk.results import load_class
from autograder.errors import KitError
from autograder.gradebook.fill import Filled, fill_canvas, fill_moodle
from autograder.gradebook.grades import Gradebook, gradebook_csv, make_gradebook
from autograder.gradebook.people import load_people
from autograder.gradebook.rules import load_rules
from autograder.gradebook.sheet import Sheet
from autograder.report import one_line


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("results", type=Path, help="folder that kit grade-class wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help="new file to write; by default RESULTS/grades.csv")
    parser.add_argument("--rules", type=Path, metavar="TOML", help="late penalty, extensions, overrides")
    parser.add_argument("--times", type=Path, metavar="CSV", help="when each was handed in: submission, submitted")
    parser.add_argument("--groups", type=Path, metavar="CSV", help="who worked together: submission, student")
    parser.add_argument("--metadata", type=Path, metavar="FILE", help="Gradescope's, for groups and times")
    parser.add_argument("--partial", action="store_true", help="go on without the results that are missing")
    platform = parser.add_mutually_exclusive_group()
    platform.add_argument("--canvas", type=Path, metavar="CSV", help="gradebook that Canvas exported, to fill")
    platform.add_argument("--moodle", type=Path, metavar="CSV", help="grading worksheet that Moodle exported, to fill")
    parser.add_argument("--column", metavar="TITLE", help="the one column to fill (Moodle: Grade)")
    parser.add_argument("--by", metavar="TITLE", help="column of student ids; by default the one that fits best")
    parser.add_argument("--scale", action="store_true", help="bring points to the maximum of the column")


def run(args) -> int:
    """Write the file; 1 when a student has two grades and nobody has decided between them."""
    export = args.canvas or args.moodle
    if export is None and (args.column or args.by or args.scale):
        raise KitError("--column, --by and --scale go with --canvas or --moodle")
    # The platforms' own files have a name of their own, so that nobody takes one for the other.
    out = args.out or args.results / ("canvas.csv" if args.canvas else "moodle.csv" if args.moodle else "grades.csv")
    if out.exists():
        raise KitError(f"{out}: exists; move it away, or name another file with --out")
    if args.out and not out.parent.is_dir():
        raise KitError(f"{out}: the folder {out.parent} does not exist")
    rules, people = load_rules(args.rules), load_people(args.groups, args.times, args.metadata)
    results = load_class(args.results)
    if results.incomplete and not args.partial:
        raise KitError(f"{args.results}: {results.incomplete}; for the grades that are there, add --partial")
    book = make_gradebook(results, rules, people)
    if export is None:
        write_whole(out, gradebook_csv(book))
    else:
        sheet = Sheet.read(export)
        fill = fill_canvas if args.canvas else fill_moodle
        filled = fill(sheet, book, args.column, args.by, args.scale)
        write_whole(out, sheet.text())
        _print_filled(filled)
    _print_book(book)
    print(out)
    return 1 if book.conflicts else 0


def _print_book(book: Gradebook) -> None:
    late = sum(one.days > 0 for one in book.grades.values())
    overridden = sum(bool(one.override) for one in book.grades.values())
    for student, why in book.conflicts.items():
        print(one_line(f"no grade for {student}: {why}; decide with an override, or name the group with --groups"))
    for note in book.notes:
        print(one_line(f"note: {note}"))
    print(f"{len(book.grades)} grades, {late} late, {overridden} overridden, {len(book.conflicts)} in conflict")


def _print_filled(filled: Filled) -> None:
    print(one_line(f"column {filled.column}, students matched by {filled.by}:"))
    print(f"{len(filled.new)} new, {len(filled.changed)} changed, {len(filled.same)} as before")
    for student, (old, new) in filled.changed.items():
        print(one_line(f"changed: {student}: {old} -> {new}"))
    for what, students in (
        ("excused or locked, left alone", filled.locked),
        ("with a grade, not in the gradebook", filled.not_in_gradebook),
        ("in the gradebook, without a grade", filled.not_in_results),
    ):
        if students:
            print(one_line(f"{what}: {', '.join(students)}"))
    for note in filled.notes:
        print(one_line(f"note: {note}"))
