"""`kit report`: one page about a graded class, and a page for each student to hand back."""

from pathlib import Path
from urllib.parse import quote

from autograder.batch import write_whole
from autograder.desk.page import class_page
from autograder.desk.results import ClassResults, load_class
from autograder.desk.sources import read_class
from autograder.errors import KitError
from autograder.report import one_line, results_page


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("results", type=Path, help="folder that kit grade-class wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page; by default RESULTS/report.html")
    parser.add_argument("--title", default="Class report", help="of the page")
    parser.add_argument("--submissions", type=Path, metavar="FOLDER", help="what was graded, to show code and copies")
    parser.add_argument("--pages", type=Path, metavar="DIR", help="write a page for each student there, to hand back")


def run(args) -> int:
    """Write the page or pages."""
    results = load_class(args.results)
    out = args.out or args.results / "report.html"
    for folder in (out.parent, *([args.pages.parent] if args.pages else [])):
        if not folder.is_dir():
            raise KitError(f"{out if folder == out.parent else args.pages}: the folder {folder} does not exist")
    if out.is_dir() or (out.is_file() and not out.read_bytes()[:15].lower() == b"<!doctype html>"):
        raise KitError(f"{out}: exists and is no report; name another file with --out")
    sources, stale = read_class(args.submissions, results) if args.submissions else (None, [])
    links = _write_pages(results, args.pages, out) if args.pages else None
    notes = tuple(f"{student}: handed in anew since it was graded; the code is not shown" for student in stale)
    page = class_page(results, args.title, sources, links, notes)
    write_whole(out, page)
    if results.incomplete:
        print(one_line(f"warning: not the whole class: {results.incomplete}"))
    for note in notes:
        print(one_line(f"note: {note}"))
    print(f"{out}: {len(results.students)} students, {len(page.encode()) / 2**20:.1f} MiB")
    return 0


def _write_pages(results: ClassResults, folder: Path, report: Path) -> dict[str, str]:
    """Write every student's page; returns student id -> its address as seen from the report."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise KitError(f"{folder}: cannot be made ({error.strerror})") from None
    links = {}
    for one in results.students:
        path = folder / f"{one['file']}.html"
        # Flags are for the instructor: a pointer is not a reproach that a student should read in a grade.
        write_whole(path, results_page(one | {"flags": []}, title=one["id"]))
        try:
            links[one["id"]] = quote(path.resolve().relative_to(report.resolve().parent).as_posix())
        except ValueError:  # elsewhere: only an absolute address would lead there
            links[one["id"]] = path.resolve().as_uri()
    return links
