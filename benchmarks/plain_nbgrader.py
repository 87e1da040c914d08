"""A course for nbgrader as courses write it: `autograde` runs the notebook, and its graded cells call the tests.

Everything is stock nbgrader. The configuration says three things: the course's name, that students' own `.py` files
stay, and that a cell may take longer than half a minute.
"""

import shutil

import nbformat
from nbgrader.api import Gradebook

from autograder.tasks import load_tasks
from tools.notebooks import METADATA, grade_id
from tools.release import student_files

ASSIGNMENT, NOTEBOOK = "fcos", "one_stage_detector"
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "fcos"
c.Autograde.exclude_overwriting = {"fcos": ["common.py", "one_stage_detector.py"]}
c.Execute.timeout = 900
"""
# Cells of the notebook that such a course has no need of: all checks once more, and the zip to hand in.
LEFT_OUT = ("check-all", "submit")


def make_course(folder, tasks, whole):
    """Write a course.

    Args:
        folder: to make.
        tasks: ids of those that are graded; none for all.
        whole: whether the notebook is the assignment's, with its pictures, its training and its evaluation; else it
            holds the graded cells and nothing more.
    """
    source = folder / "source" / ASSIGNMENT
    for name, content in student_files().items():
        # The graded tests, the hidden ones among them, are the instructor's: the kernel finds them elsewhere.
        if not name.startswith("autograder/"):
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (folder / "nbgrader_config.py").write_text(CONFIG)
    path = source / f"{NOTEBOOK}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    graded = {grade_id(task.id): task.id for task in load_tasks().graded if not tasks or task.id in tasks}
    cells = []
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in graded:
            arguments = ", ".join(f'"{task}"' for task in (graded[name], *tasks))
            cell.source = f"from in_kernel import points\n\npoints({arguments})"
            cells.append(cell)
        elif whole and cell.id not in LEFT_OUT:
            if cell.cell_type == "code":
                cell.metadata.pop("nbgrader", None)
            cells.append(cell)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), path)


def hand_in(folder, student, files):
    """Hand in the released notebook and a student's files."""
    place = folder / "submitted" / student / ASSIGNMENT
    shutil.copytree(files, place)
    shutil.copy(folder / "release" / ASSIGNMENT / f"{NOTEBOOK}.ipynb", place)


def points_in(folder, students):
    """Return {student: points of the graded code cells} from nbgrader's gradebook."""
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        return {student: book.find_submission(ASSIGNMENT, student).code_score for student in students}
