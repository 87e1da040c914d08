"""Files of a class with anything in the place of a value: one line says what is wrong, or the value does no harm."""

import copy
import json

import pytest
from synthetic import student, write_results

from autograder.desk.page import class_page
from autograder.desk.results import load_class
from autograder.errors import KitError
from autograder.gradebook.changes import compare_classes, what_changed
from autograder.gradebook.grades import gradebook_csv, make_gradebook
from autograder.gradebook.people import People
from autograder.gradebook.rules import Rules
from autograder.report import results_page

HELD_OUT = {"split": "val", "images": 300, "sha256": "ab"}
RESULTS = student(
    "ann", 0.5, held_out=HELD_OUT, measures={"mAP": 0.4}, pictures={"7": [[1, 2, 3, 4, "cat", 0.9]]}, members=["ann"]
) | {"notes": ["a note"], "flags": ["a flag"]}
RESULTS["tasks"] = RESULTS["tasks"][:1]
RESULTS["tasks"][0]["parts"] = RESULTS["tasks"][0]["parts"][:1]
FILES = {
    "results/000.json": RESULTS,
    "summary.json": {
        "complete": True,
        "graded": 1,
        "submissions": 1,
        "superseded": [{"id": "ann", "source": "old.zip", "counts": "ann.zip"}],
        "not_graded": [{"id": "ben", "reason": "the grader ended"}],
        "notes": ["a note"],
    },
    "held-out.json": {
        "sha256": "ab",
        "pictures": [{"id": "7", "width": 9, "height": 9, "jpeg": "", "truth": [[1, 2, 3, 4, "cat", False]]}],
    },
}
INSTEAD = (None, [], [None], {"a": None}, "", -1, 1e30, True)


def places(content, place=()):
    """Every place in nested lists and dicts: a tuple of keys and indices."""
    yield place
    if isinstance(content, (dict, list)):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*place, key))


def replaced(content, place, value):
    if not place:
        return value
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


def load(folder):
    """Returns (the results, "") or (None, why there are none)."""
    try:
        return load_class(folder), ""
    except KitError as error:
        return None, str(error)


def use(results):
    """Do what the commands of the instructor's desk do with results."""
    class_page(results, "Title", pages={"ann": "ann.html"})
    for one in results.students:
        results_page(one, one["id"])
    gradebook_csv(make_gradebook(results, Rules(), People()))
    compare_classes(results, results)
    what_changed(results, results)


@pytest.fixture
def folder(tmp_path):
    write_results(tmp_path / "out", [RESULTS])
    for name, content in FILES.items():
        (tmp_path / "out" / name).write_text(json.dumps(content))
    return tmp_path / "out"


def test_class_as_it_is_can_be_used(folder):
    results = load_class(folder)
    assert len(results.pictures) == 1
    assert results.incomplete == ""
    use(results)


@pytest.mark.parametrize("name", FILES)
def test_wrong_value_anywhere_is_named_with_its_file_or_does_no_harm(name, folder):
    refused, whole = 0, FILES[name]
    for place in places(whole):
        for value in INSTEAD:
            (folder / name).write_text(json.dumps(replaced(whole, place, value)))
            results, reason = load(folder)
            if reason:
                assert reason.startswith(f"{folder / name}: "), (place, value)
                assert "\n" not in reason
                refused += 1
                continue
            try:
                use(results)
            except Exception as error:
                raise AssertionError(f"{name}, {place} = {value!r}") from error
    assert refused > 20


@pytest.mark.parametrize("name", FILES)
def test_nesting_without_end_is_no_whole_file(name, folder):
    (folder / name).write_text("[" * 50_000)
    with pytest.raises(KitError, match="not a whole JSON file"):
        load_class(folder)
