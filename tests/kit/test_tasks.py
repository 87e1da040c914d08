"""The table of tasks: points in force, and errors that name the line."""

import pytest

from autograder.errors import KitError
from autograder.tasks import ROOT, load_tasks

TABLE = (ROOT / "solutions" / "tasks.toml").read_text()
POINTS = {"1.1": 12, "1.2": 6, "2.1": 12, "2.2": 6, "2.3": 6, "2.4": 6, "3.1": 20, "3.2": 6, "4.1": 12, "4.2": 14}

# (text in the table, replacement, message)
WRONG_TABLES = [
    ("points = 20\npart", "points = 21\npart", r":\d+: task 3.1: its parts sum to 20, not to 21"),
    ('id = "1.2"', 'id = "1.1"', r":\d+: task 1.1: appears twice"),
    ("mAP of 30 %", "mAP of 22 %", r":\d+: task 5.1: two of its parts have the same id or title"),
    ('id = "two-thirds"', 'id = "third"', r"task 5.1: two of its parts have the same id or title"),
    ('file = "common.py"', 'file = "other.py"', r"task 1.1: file must be one of"),
    ('needs = ["2.3", "4.1"]', 'needs = ["7.7"]', r":\d+: task 4.2: needs a task '7.7'"),
    ("total = 100", "total = 90", r":14: the points of the tasks sum to 100, not to total = 90"),
    ('title = "Inference"', 'titel = "Inference"', r":\d+: task 4.2: missing title"),
    ("given = true\n", "givn = true\n", r"task 2.5: unknown key givn"),
    ("total = 100", "total = ", r"line 14"),
    (
        "at_least = 22",
        "at_least = 101",
        r":\d+: task 5.1: at_least is a number above 0, up to 100, of a part with hidden",
    ),
    ("at_least = 22", "at_least = 0", r"task 5.1: at_least is a number above 0"),
    ("at_least = 22", 'at_least = "22"', r"task 5.1: at_least is a number above 0"),
    ("at_least = 22", "at_least = true", r"task 5.1: at_least is a number above 0"),
    ("hidden = true, at_least = 22", "at_least = 22", r"task 5.1: at_least is a number above 0"),
    ("at_least = 22", "atleast = 22", r"task 5.1: a part is written wrongly"),
]


def with_change(tmp_path, *changes):
    text = TABLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "tasks.toml"
    path.write_text(text)
    return path


def test_points_are_those_of_the_assignment():
    table = load_tasks()
    assert {task.id: task.points for task in table.graded} == POINTS
    assert sum(POINTS.values()) == table.total == 100


@pytest.mark.parametrize(("old", "new", "message"), WRONG_TABLES)
def test_wrong_table_is_named_with_its_line(tmp_path, old, new, message):
    with pytest.raises(KitError, match=message):
        load_tasks(with_change(tmp_path, (old, new)))


def test_line_of_a_wrong_task_is_the_line_of_its_id(tmp_path):
    path = with_change(tmp_path, ("points = 20\npart", "points = 21\npart"))
    line = path.read_text().splitlines().index('id = "3.1"') + 1
    with pytest.raises(KitError, match=f"tasks.toml:{line}: task 3.1"):
        load_tasks(path)


def test_given_task_spreads_its_points_over_the_others(tmp_path):
    table = load_tasks(with_change(tmp_path, ('id = "4.1"\n', 'id = "4.1"\ngiven = true\n')))
    points = {task.id: task.points for task in table.graded}
    assert "4.1" not in points
    assert sum(points.values()) == 100
    # 12 of 100 points are spread over 88: 20 -> 20 * 100 / 88 = 22.7, 6 -> 6.8.
    assert points["3.1"] in (22, 23)
    assert points["2.2"] in (6, 7)
    for task in table.graded:
        assert sum(part.points for part in task.parts) == task.points


def test_optional_task_joins_and_the_sum_stays(tmp_path):
    table = load_tasks(with_change(tmp_path, ("given = true\noptional = true\n", "given = false\noptional = true\n")))
    points = {task.id: task.points for task in table.graded}
    # 110 points are scaled to 100: 10 -> 9.09.
    assert points["2.5"] == 9
    assert sum(points.values()) == 100


def test_task_that_measures_detectors_joins_with_its_thresholds(tmp_path):
    assert "5.1" not in {task.id for task in load_tasks().graded}
    table = load_tasks(with_change(tmp_path, ("seconds = 120\ngiven = true\n", "seconds = 120\n")))
    assert table["5.1"] in table.graded
    # 115 points are scaled to 100: 15 -> 13.04.
    assert table["5.1"].points == 13
    assert [part.at_least for part in table["5.1"].parts] == [22, 30, 38]
    assert [task.id for task in table.tasks if task.measures] == ["5.1"]


def test_unknown_task_lists_those_that_exist():
    with pytest.raises(KitError, match=r"no task '8.1'; the tasks are 1.1, 1.2.*, 4.2; given.*: 2.5, 5.1$"):
        load_tasks()["8.1"]


def test_missing_table_is_named(tmp_path):
    with pytest.raises(KitError, match=r"nowhere.toml: the table of tasks cannot be read"):
        load_tasks(tmp_path / "nowhere.toml")
