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
    _refuse_to_replace(out, "report", "name another file with --out")
    for one in results.students if args.pages else ():
        path = _page_of(one, args.pages)
        if path.resolve() == out.resolve():
            raise KitError(f"{path}: the page of {one['id']!r} would replace the report; name another --pages")
        _refuse_to_replace(path, "results", "name another folder with --pages")
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


def _refuse_to_replace(path: Path, kind: str, remedy: str) -> None:
    """Raise `KitError` where something lies that is no page of this kind, as its `generator` says."""
    mark = f'<meta name="generator" content="fcos-course-kit {kind}">'
    try:
        with path.open("rb") as file:
            if mark.encode() in file.read(1024):
                return
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:  # a folder, or nothing that can be read: no page either
        pass
    raise KitError(f"{path}: exists and is no {kind} page of the kit; {remedy}")


def _page_of(results: dict, folder: Path) -> Path:
    return folder / f"{results['file']}.html"


def _write_pages(results: ClassResults, folder: Path, report: Path) -> dict[str, str]:
    """Write every student's page; returns student id -> its address as seen from the report."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise KitError(f"{folder}: cannot be made ({error.strerror})") from None
    links = {}
    for one in results.students:
        path = _page_of(one, folder)
        # Flags are for the instructor: a pointer is not a reproach that a student should read in a grade. So is what
        # a weak isolation leaves open; its level stands on the page.
        write_whole(path, results_page(one | {"flags": [], "isolation_warning": ""}, title=one["id"]))
        try:
            links[one["id"]] = quote(path.resolve().relative_to(report.resolve().parent).as_posix())
        except ValueError:  # elsewhere: only an absolute address would lead there
            links[one["id"]] = path.resolve().as_uri()
    return links
