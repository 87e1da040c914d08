"""`check("2.3")` as the notebook calls it."""

import os
import signal
import sys
import threading

import pytest

from autograder import check
from autograder.errors import KitError
from autograder.tasks import FILES, ROOT

COMMON, DETECTOR = FILES


def test_check_shows_points_of_the_solutions():
    check.use(ROOT / "solutions")
    card = check("2.2")
    assert card.passed
    assert (card.points, card.max_points) == (3, 3)
    assert "background rows give -1 (1/1)" in str(card)
    assert float(card) == card.score() == 3.0


def test_check_notices_an_edit_and_teaches(spoil, solution_copy):
    check.use(solution_copy)
    assert check("2.2").passed
    spoil(DETECTOR, "y2 - y], dim=-1) / stride", "y2 - y], dim=-1)")
    card = check("2.2")
    assert not card.passed
    text = " ".join(str(card).split())
    assert "the worst at" in text
    assert "The division by the stride is missing" in text


def test_check_says_what_to_fix_first(spoil, solution_copy):
    spoil(DETECTOR, ".clamp(min=0).sqrt().masked_fill", ".clamp(min=0).masked_fill")
    check.use(solution_copy)
    card = check("3.1")
    statuses = {part["id"]: part["status"] for part in card.tasks[0]["parts"]}
    assert statuses == {"loss-cls": "passed", "loss-box": "passed", "loss-ctr": "waiting"}
    assert "fix 2.4 first" in str(card)


def test_check_of_everything_adds_up(solution_copy):
    check.use(solution_copy)
    card = check.all()
    assert card.passed
    assert card.points == card.max_points > 40
    assert "Task 3.2 has no public test" in card.note


def test_check_escapes_what_a_submission_says(spoil, solution_copy):
    spoil(DETECTOR, "    x, y = locations.unbind(dim=-1)\n    x1, y1", "    raise ValueError('<script>')\n    x1, y1")
    check.use(solution_copy)
    page = check("2.2")._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


# What somebody may write -> the one line that answers it.
NO_TASK = {
    1.2: 'a task is named by text, as in check("2.3"), and not by 1.2',
    "2.5": "task 2.5 is given: there is nothing to check",
    "9.9": "no task '9.9'; the tasks are 1.1, 1.2, 2.1, 2.2, 2.3, 2.4, 3.1, 3.2, 4.1, 4.2; given, with nothing to "
    "grade: 2.5, 5.1",
}


@pytest.mark.parametrize("task_id", NO_TASK)
def test_check_of_no_task_answers_in_one_line_and_gives_nothing(task_id, capsys):
    card = check(task_id)
    assert str(card) == NO_TASK[task_id]
    assert capsys.readouterr().out == NO_TASK[task_id] + "\n"
    assert not card.passed
    assert float(card) == 0
    assert "<table" not in card._repr_html_()


def test_check_prints_where_nobody_shows_its_value(solution_copy, capsys, monkeypatch):
    check.use(solution_copy)
    card = check("2.3")
    assert capsys.readouterr().out == f"{card}\n"
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    check("2.3")
    assert capsys.readouterr().out == ""


def test_check_names_a_folder_without_files(tmp_path):
    with pytest.raises(KitError, match="holds neither"):
        check.use(tmp_path)


def test_check_says_where_a_syntax_error_is(spoil, solution_copy):
    spoil(COMMON, "def nms(", "def nms(:")
    line = (solution_copy / COMMON).read_text().partition("def nms(:")[0].count("\n") + 1
    check.use(solution_copy)
    card = check("4.1")
    assert float(card) == 0
    assert f"{COMMON} cannot be imported: SyntaxError: invalid syntax ({COMMON}:{line})" in " ".join(str(card).split())


@pytest.mark.timeout(120)
def test_interrupted_check_leaves_the_next_one_clean(spoil, solution_copy):
    check.use(solution_copy)
    assert check("2.2").passed
    right = (solution_copy / DETECTOR).read_text()
    spoil(DETECTOR, "    x, y = locations.unbind(dim=-1)\n    x1, y1", "    while True: pass\n    x1, y1")
    stop = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    stop.start()
    with pytest.raises(KeyboardInterrupt):
        check("2.2")
    stop.join()
    (solution_copy / DETECTOR).write_text(right)
    assert check("2.2").passed
