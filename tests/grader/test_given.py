"""The table decides what is a task: matching made one, NMS given away."""

import pytest

from autograder.grade import grade
from autograder.oracle.patches import write_files
from autograder.tasks import load_tasks
from tools.grading_pool import grade_specimen
from tools.specimens import read_mutants, read_variants

MUTANTS = {mutant.name: mutant for mutant in read_mutants()}
SOLUTIONS = read_variants()[0]
MATCHING = load_tasks(given={"2.5": False})
NMS_GIVEN = load_tasks(given={"4.1": True})
# mistake -> parts of 2.5 that see it; each part sees one that the others need not see
MATCHING_MUTANTS = {
    "2.5/axes-swapped": "off-square",
    "2.5/p5-bounded": "off-square",
    "2.5/ends-left-out": "edges",
    "2.5/crash-without-box": "edges",
}


def _graded(specimen, table, tasks, worker, folder):
    results = grade(write_files(specimen.files, folder), table, tasks, worker=worker)
    return {row["id"]: (row["points"], row["max_points"]) for row in results["tasks"]}


def test_matching_as_a_task_gives_its_points_to_the_solutions(worker, tmp_path):
    points = _graded(SOLUTIONS, MATCHING, {"2.5", "3.1"}, worker, tmp_path)
    # 10 more points than 100 are scaled to 100: 10 * 100 / 110 = 9.1 and 20 * 100 / 110 = 18.2.
    assert points == {"2.5": (9, 9), "3.1": (18, 18)}


@pytest.mark.parametrize("name", MATCHING_MUTANTS)
def test_mistake_in_matching_costs_matching_alone(name, worker):
    graded = grade_specimen(MUTANTS[name], {"2.5", "3.1"}, worker)
    assert f"2.5/{MATCHING_MUTANTS[name]}" in graded.lost
    assert graded.lost_elsewhere == []


def test_given_nms_is_not_graded_and_costs_nothing(worker, tmp_path):
    broken = MUTANTS["4.1/keeps-everything"]
    points = _graded(broken, NMS_GIVEN, {"1.2", "4.2"}, worker, tmp_path)
    # 12 points are spread over the other 88: 6 * 100 / 88 = 6.8 and 14 * 100 / 88 = 15.9.
    assert points == {"1.2": (7, 7), "4.2": (16, 16)}
    assert "4.1" not in {task.id for task in NMS_GIVEN.graded}
    assert sum(task.points for task in NMS_GIVEN.graded) == 100
