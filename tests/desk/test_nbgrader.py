"""A whole nbgrader course with the commands of nbgrader itself: three students, one gradebook."""

import copy
import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from autograder.errors import KitError
from autograder.grade import grade
from autograder.tasks import FILES, ROOT, load_tasks
from tools.cli import main
from tools.nbgrader import graded_notebook
from tools.nbgrader_grading import KitGrading
from tools.notebooks import ANSWER_PROMPT, render_notebooks

TASKS = ("2.2", "2.3")
CELLS = {"task-2-2": "2.2", "task-2-3": "2.3"}
NOTEBOOK = "one_stage_detector"
ANSWER = "The coarse levels see whole objects."
# A student's cell that takes over the kernel; it must never run.
HOSTILE_CELL = """import builtins, pathlib
pathlib.Path("it-ran").write_text("")
builtins.float = lambda value: 6.0
check = lambda task: 6.0"""
NOISY = """import sys, warnings
warnings.warn("deprecated")
print("loading", file=sys.stderr)
import torch
"""


def nbgrader(course, *arguments):
    """Run nbgrader as a person in the course's folder would, with this copy of the kit."""
    # nbgrader calls `alembic`, which lies beside Python: hence "activate the environment" in the documentation.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def cell(notebook, grade_id):
    return next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def hand_in(course, student, edit_notebook=lambda notebook: None, edit=lambda text: text, source="solutions"):
    folder = course / "submitted" / student / "fcos"
    folder.mkdir(parents=True)
    notebook = nbformat.read(course / "release" / "fcos" / f"{NOTEBOOK}.ipynb", as_version=4)
    edit_notebook(notebook)
    nbformat.write(notebook, folder / f"{NOTEBOOK}.ipynb")
    for name in FILES:
        (folder / name).write_text(edit((ROOT / source / name).read_text()))


def answer_a_question(notebook):
    cell(notebook, "answer-fpn").source = ANSWER


def cheat(notebook):
    """Take over the kernel, write a score into a graded cell and a copy of it, delete another, add one of one's own."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(HOSTILE_CELL))
    graded = cell(notebook, "task-2-3")
    graded.source = "6.0"
    graded.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "6.0"}, execution_count=1)]
    split, own = copy.deepcopy(graded), copy.deepcopy(graded)
    split.id, own.id = "split", "bonus"
    own.metadata.nbgrader.grade_id = "bonus"
    notebook.cells += [split, own]
    notebook.cells.remove(cell(notebook, "task-2-2"))


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course that was released, handed in, graded and fed back."""
    course = tmp_path_factory.mktemp("nbgrader") / "course"
    assert main(["nbgrader", str(course), *(word for task in TASKS for word in ("--task", task))]) == 0
    nbgrader(course, "generate_assignment", "fcos")
    hand_in(course, "full", answer_a_question, lambda text: text.replace("import torch\n", NOISY, 1))
    hand_in(course, "partial", cheat, lambda text: text.replace("(deltas.clamp(min=0) * stride)", "(deltas * stride)"))
    hand_in(course, "broken", cheat, lambda text: text + "\ndef broken(:\n")
    nbgrader(course, "autograde", "fcos")
    nbgrader(course, "generate_feedback", "fcos")
    nbgrader(course, "export", "--to", "grades.csv")
    return course


@pytest.fixture(scope="module")
def gradebook(course):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        yield book


STUDENTS = {"full": 12, "partial": 10, "broken": 0}


@pytest.mark.parametrize("student", STUDENTS)
def test_gradebook_has_the_points_of_kit_grade(student, course, gradebook):
    results = grade(course / "submitted" / student / "fcos", tasks=set(TASKS))
    expected = {row["id"]: row["points"] for row in results["tasks"]}
    found = gradebook.find_submission_notebook(NOTEBOOK, "fcos", student)
    stored = {CELLS[one.name]: one.auto_score for one in found.grades if one.name in CELLS}
    assert stored == expected
    assert sum(stored.values()) == STUDENTS[student]
    assert found.max_code_score == results["max_total"] == 12


def test_written_answers_wait_for_a_person_and_untouched_ones_get_nothing(gradebook):
    for student in STUDENTS:
        grades = {one.name: one for one in gradebook.find_submission_notebook(NOTEBOOK, "fcos", student).grades}
        waiting = {name for name, one in grades.items() if one.needs_manual_grade}
        assert waiting == ({"answer-fpn"} if student == "full" else set())
        assert grades["answer-decode"].auto_score == 0
    assert gradebook.find_submission("fcos", "full").needs_manual_grade


def test_no_cell_of_a_student_runs(course):
    assert not list(course.rglob("it-ran"))


def test_students_files_are_not_replaced_by_the_skeletons(course):
    for student in STUDENTS:
        for name in FILES:
            submitted, graded = (course / step / student / "fcos" / name for step in ("submitted", "autograded"))
            assert graded.read_text() == submitted.read_text()


def test_feedback_says_why_points_were_lost(course):
    page = (course / "feedback" / "partial" / "fcos" / f"{NOTEBOOK}.html").read_text()
    assert "Negative deltas must count as 0" in page
    page = (course / "feedback" / "broken" / "fcos" / f"{NOTEBOOK}.html").read_text()
    assert "SyntaxError" in page


def test_export_lists_everybody(course):
    with (course / "grades.csv").open(newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {student: float(row["score"]) for student, row in rows.items()} == STUDENTS


def test_release_keeps_the_prompt_and_its_cells_end_in_a_number(course):
    notebook = nbformat.read(course / "release" / "fcos" / f"{NOTEBOOK}.ipynb", as_version=4)
    assert cell(notebook, "answer-fpn").source == ANSWER_PROMPT
    graded = [
        one for one in notebook.cells if one.cell_type == "code" and one.metadata.get("nbgrader", {}).get("grade")
    ]
    assert {one.metadata.nbgrader.grade_id for one in graded} == set(CELLS)
    for one in graded:
        card = f'card = check("{CELLS[one.metadata.nbgrader.grade_id]}")\n'
        assert card in one.source
        assert one.source.splitlines()[-1] == "float(card)"


def test_release_holds_no_answer(course):
    released = {path.relative_to(course / "release" / "fcos").as_posix() for path in (course / "release").rglob("*")}
    assert {"helpers/train.py", "autograder/feedback.py", "common.py"} <= released
    assert not any("hidden" in name or "oracle" in name or "solutions" in name for name in released)


def notebook_with(grade_id, points):
    metadata = {"nbgrader": {"grade": True, "solution": False, "grade_id": grade_id, "points": points}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", metadata=metadata)])


# What is wrong -> grade id and points of the cell, and what is said. No grade is better than nbgrader's full marks.
NOT_GRADED = {
    "a cell of somebody else": ("my-own-test", 6, "no task for the graded cell 'my-own-test'"),
    "a given task": ("task-2-5", 10, "no task for the graded cell 'task-2-5'"),
    "another table of points": ("task-2-3", 5, "task 2.3 has 6 points in tasks.toml and 5 in this course"),
}


@pytest.mark.parametrize("case", NOT_GRADED)
def test_what_the_kit_cannot_grade_is_an_error(case, tmp_path, monkeypatch):
    grade_id, points, message = NOT_GRADED[case]
    rows = [{"id": task.id, "points": 0, "max_points": task.points, "parts": []} for task in load_tasks().graded]
    monkeypatch.setattr("tools.nbgrader_grading.grade_job", lambda job: {"tasks": rows})
    with pytest.raises(KitError, match=message):
        KitGrading().preprocess(notebook_with(grade_id, points), {"metadata": {"path": str(tmp_path)}})


def test_broken_grader_is_an_error(tmp_path, monkeypatch):
    def broken(job):
        raise KitError("the reference is missing")

    monkeypatch.setattr("tools.nbgrader_grading.grade_job", broken)
    with pytest.raises(KitError, match="the reference is missing"):
        KitGrading().preprocess(notebook_with("task-2-3", 6), {"metadata": {"path": str(tmp_path)}})


BAD_INPUT = [
    (["{}/mine"], "exists; name a folder that does not"),
    (["{}/no/such/course"], "cannot be written"),
    (["{}/new", "--task", "9.9"], "no task '9.9'"),
    (["{}/new", "--task", "2.5"], "task 2.5 is not graded"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT)
def test_bad_input_is_one_line_and_overwrites_nothing(arguments, message, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "gradebook.db").write_text("a semester")
    assert main(["nbgrader", *(text.format(tmp_path) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "gradebook.db").read_text() == "a semester"


def test_task_that_measures_detectors_has_no_graded_cell(tmp_path, monkeypatch, capsys):
    table = load_tasks(given={"5.1": False})
    path = tmp_path / "tasks.toml"
    path.write_text(
        (ROOT / "solutions" / "tasks.toml").read_text().replace("seconds = 120\ngiven = true", "seconds = 120")
    )
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "solutions" / "notebooks" / f"{NOTEBOOK}.py", tmp_path / "notebooks")
    text = render_notebooks(tmp_path / "notebooks")[f"{NOTEBOOK}.ipynb"]
    assert cell(nbformat.reads(text, as_version=4), "task-5-1").source == 'check("5.1")'
    cells = nbformat.reads(graded_notebook(text, table), as_version=4).cells
    ids = {one.metadata.nbgrader.grade_id for one in cells if "nbgrader" in one.metadata and one.cell_type == "code"}
    assert ids == {"task-" + task.id.replace(".", "-") for task in table.graded} - {"task-5-1"}
    monkeypatch.setattr("tools.nbgrader.load_tasks", lambda: table)
    assert main(["nbgrader", str(tmp_path / "course"), "--task", "5.1"]) == 2
    assert "nbgrader hands on no weights" in capsys.readouterr().err
    monkeypatch.setattr("tools.nbgrader.course_files", lambda table, tasks: {"a.txt": b"a"})
    assert main(["nbgrader", str(tmp_path / "course")]) == 0
    said = f"task 5.1 ({table['5.1'].points} points) has no graded cell: nbgrader hands on no weights; grade it with"
    assert said in capsys.readouterr().out
