"""`kit nbgrader`: make an nbgrader course: configuration, notebook, skeletons, and what students need beside them."""

import re
import tempfile
from pathlib import Path

import nbformat

from autograder.errors import KitError
from autograder.tasks import ROOT, TaskTable, load_tasks
from tools import release
from tools.notebooks import ANSWER_PROMPT, grade_id

ASSIGNMENT = "fcos"
CONFIG = ROOT / "tools" / "templates" / "nbgrader_config.py"
_NO_WEIGHTS = "nbgrader hands on no weights; grade it with kit grade-class --weights"
_CHECK = re.compile(r'check\("[\w.]+"\)')
# nbgrader gives full marks to a graded cell whose last value is no number, a card for example. Where students run this
# cell, and where somebody autogrades without the kit, it is worth no more than the public tests.
_GRADED_CELL = """from IPython.display import display

card = {check}
display(card)
float(card)"""


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("course", type=Path, metavar="COURSE_DIR", help="folder to make")
    parser.add_argument("--task", action="append", metavar="ID", help="grade this task only; may be given again")


def run(args) -> int:
    """Write the course."""
    table = load_tasks()
    table.require_graded(args.task or ())
    for task_id in args.task or ():
        if table[task_id].measures:
            raise KitError(f"task {task_id}: {_NO_WEIGHTS}")
    files = course_files(table, set(args.task) if args.task else None)
    write_course(args.course, files)
    print(f"wrote {args.course}: {len(files)} files; go on there with: nbgrader generate_assignment {ASSIGNMENT}")
    for task in table.graded:
        if task.measures and not args.task:
            print(f"task {task.id} ({task.points} points) has no graded cell: {_NO_WEIGHTS}")
    return 0


def course_files(table: TaskTable, tasks: set[str] | None = None) -> dict[str, bytes]:
    """Return every file of a course by its path there.

    Args:
        table: of tasks.
        tasks: ids of those that have graded cells; None for all.

    Raises:
        KitError: see `tools.release.student_files`.
    """
    source = release.student_files()
    for name, content in source.items():
        if name.endswith(".ipynb"):
            source[name] = graded_notebook(content.decode(), table, tasks).encode()
    config = CONFIG.read_text(encoding="utf-8").replace("@STUB@", ANSWER_PROMPT)
    return {f"source/{ASSIGNMENT}/{name}": content for name, content in source.items()} | {CONFIG.name: config.encode()}


def allowed_names(listed: set[str]) -> set[str]:
    """Return the path in a course of every file that may be there, from those in the student's folder."""
    return {f"source/{ASSIGNMENT}/{name}" for name in listed} | {CONFIG.name}


def graded_notebook(text: str, table: TaskTable, tasks: set[str] | None = None) -> str:
    """Return a notebook whose check cells end in a number, and are graded for some tasks alone.

    Args:
        text: of the students' notebook.
        table: of tasks.
        tasks: ids of those that have graded cells; None for all but those that measure detectors.
    """
    notebook = nbformat.reads(text, as_version=4)
    graded = {task.id for task in table.graded if not task.measures} if tasks is None else tasks
    checks = {grade_id(task.id): task.id in graded for task in table.graded}
    for cell in notebook.cells:
        is_graded = checks.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if is_graded:
            cell.source = _CHECK.sub(lambda found: _GRADED_CELL.format(check=found[0]), cell.source)
        elif is_graded is False:
            del cell.metadata["nbgrader"]
    return nbformat.writes(notebook) + "\n"


def write_course(folder: Path, files: dict[str, bytes]) -> None:
    """Write a course as a whole.

    Raises:
        KitError: something is there already, or the folder cannot be made.
    """
    if folder.exists():
        raise KitError(f"{folder}: exists; name a folder that does not, a course is never overwritten")
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".", ignore_cleanup_errors=True) as place:
            course = Path(place) / "course"
            for name, content in files.items():
                (course / name).parent.mkdir(parents=True, exist_ok=True)
                (course / name).write_bytes(content)
            course.rename(folder)
    except OSError as error:
        raise KitError(f"{folder}: cannot be written ({error.strerror})") from None
