"""The same submission gets the same results, whatever the order of the tests and the number of threads."""

import json

from autograder.grade import grade
from autograder.oracle.patches import write_files
from tools.verify_repeat import RECORDED, results_of, samples

# Quick to grade, with numbers in their messages.
TASKS = {"1.2", "4.2"}


def test_results_do_not_depend_on_order_threads_and_folder():
    mutant = samples()[1]
    first, second = (results_of(mutant, number, TASKS) for number in (0, 1))
    assert first == second
    assert "expected 0." in first


def test_results_record_what_is_needed_to_repeat_them(worker, tmp_path):
    solutions = samples()[0]
    results = grade(write_files(solutions.files, tmp_path), tasks={"2.3"}, worker=worker)
    assert all(results[name] for name in RECORDED)
    assert set(results["versions"]) == {"fcos-course-kit", "torch", "torchvision"}
    assert len(results["tasks_sha256"]) == 64
    assert json.dumps(results)  # nothing that cannot be written down
