"""Kinds of mistakes, on an image where each can be told by eye, and what each costs."""

import numpy as np
import pytest

from helpers.errors import KINDS, MISTAKES, confusion_figure, cost_of_errors, error_bars, find_errors
from helpers.evaluation import evaluate_voc

A, B, C = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [40.0, 0.0, 50.0, 10.0]
HALF_OF_B = [20.0, 0.0, 24.0, 10.0]  # IoU 0.4
PART_OF_B = [20.0, 0.0, 22.0, 10.0]  # IoU 0.2
NOWHERE = [80.0, 80.0, 90.0, 90.0]


def image(*rows):
    """Three columns of rows (box, class, value): a prediction with scores, or a truth with difficult flags."""
    boxes, classes, values = zip(*rows) if rows else ((), (), ())
    return np.array(boxes, float).reshape(-1, 4), np.array(classes, int), np.array(values)


TRUTH = {0: image((A, 0, False), (B, 1, False), (C, 0, True))}

# name, detections on TRUTH, kinds from the surest detection on, how many objects are missed
CASES = [
    ("right", [(A, 0, 0.9), (B, 1, 0.8)], ["correct", "correct"], 0),
    ("duplicate", [(A, 0, 0.9), (A, 0, 0.8)], ["correct", "duplicate"], 1),
    ("localisation", [(HALF_OF_B, 1, 0.9)], ["localisation"], 1),
    ("class", [(A, 1, 0.9)], ["class"], 1),
    ("class_and_localisation", [(HALF_OF_B, 0, 0.9)], ["both"], 2),
    ("background", [(NOWHERE, 0, 0.9)], ["background"], 2),
    ("difficult", [(C, 0, 0.9), (C, 0, 0.8)], ["ignored", "ignored"], 2),
    ("below_the_threshold", [(A, 0, 0.2)], [], 2),
    ("sorted_by_score", [(NOWHERE, 0, 0.5), (A, 0, 0.7)], ["correct", "background"], 1),
]


@pytest.mark.parametrize(("rows", "kinds", "missed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_kind_of_each_detection(rows, kinds, missed):
    errors = find_errors({0: image(*rows)}, TRUTH, 2, score_threshold=0.3)
    expected = {name: kinds.count(name) for name in ("correct", *MISTAKES)} | {"missed": missed}
    assert errors.counts() == expected
    assert [KINDS[k] for k in errors.kind] == kinds


def test_detections_where_no_object_is_are_background():
    errors = find_errors({0: image((A, 0, 0.9))}, {0: image()}, 2)
    assert errors.counts()["background"] == 1
    assert errors.confusion.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_every_detection_has_one_kind_and_right_ones_agree_with_the_evaluation():
    rng = np.random.default_rng(0)
    truth, predictions = {}, {}
    for i in range(30):
        corner = rng.uniform(0, 50, (5, 2))
        boxes = np.hstack([corner, corner + rng.uniform(20, 40, (5, 2))])
        truth[i] = (boxes, rng.integers(0, 3, 5), rng.random(5) < 0.2)
        predictions[i] = (boxes + rng.normal(0, 5, boxes.shape), rng.integers(0, 3, 5), rng.random(5))
    errors = find_errors(predictions, truth, 3, score_threshold=0)
    result = evaluate_voc(predictions, truth, 3)
    right = sum(one.recall[-1] * one.num_objects for one in result.classes)
    counted = sum(len(one.scores) for one in result.classes)
    counts = errors.counts()
    assert counts["correct"] == round(right)
    assert sum(counts.values()) - counts["missed"] == counted
    assert errors.confusion[:3].sum() == sum(one.num_objects for one in result.classes)


def test_mending_a_kind_of_mistake_gives_what_it_cost():
    truth = {0: image((A, 0, False), (B, 0, False), (C, 1, False))}
    # Class 0: right at A, loose at B: recall 1/2 with precision 1. Class 1: named 0, so AP 0. mAP 1/4.
    predictions = {0: image((A, 0, 0.9), (HALF_OF_B, 0, 0.8), (C, 0, 0.7))}
    errors = find_errors(predictions, truth, 2)
    cost = cost_of_errors(errors, 2)
    assert cost["localisation"] == pytest.approx(0.25)  # class 0 becomes 1
    assert cost["class"] == pytest.approx(0.5)  # class 1 becomes 1
    assert cost["missed"] == cost["background"] == cost["duplicate"] == pytest.approx(0)


def test_second_mistake_about_one_object_is_dropped_when_mended():
    truth = {0: image((B, 0, False), (A, 0, False))}
    predictions = {0: image((PART_OF_B, 0, 0.9), (HALF_OF_B, 0, 0.8), (A, 0, 0.7))}
    # Before: right is the third detection, precision 1/3 at recall 1/2. After: both objects, no mistake.
    assert cost_of_errors(find_errors(predictions, truth, 1), 1)["localisation"] == pytest.approx(1 - 1 / 6)


def test_confusion_counts_objects_by_what_they_are_called():
    truth = {0: image((A, 0, False), (B, 1, False), (C, 1, False))}
    predictions = {0: image((A, 0, 0.9), (B, 0, 0.8), (B, 0, 0.7), (NOWHERE, 1, 0.6))}
    matrix = find_errors(predictions, truth, 2).confusion
    # A is called right, B is called 0 (once: the second detection of it is a duplicate), C is not found.
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_nothing_found_costs_everything():
    errors = find_errors({}, TRUTH, 2)
    assert errors.counts()["missed"] == 2
    assert cost_of_errors(errors, 2)["missed"] == 1


def test_figures_name_kinds_and_classes():
    errors = find_errors({0: image((A, 1, 0.9), (B, 1, 0.8), (NOWHERE, 0, 0.7))}, TRUTH, 2)
    figure = error_bars(errors, cost_of_errors(errors, 2))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["missed entirely", *MISTAKES[-2::-1]]
    assert "scores above 0.3" in figure.axes[0].get_xlabel()
    assert "all detections" in figure.axes[1].get_xlabel()  # the costs are of all
    figure = confusion_figure(errors, {0: "cat", 1: "dog"})
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["cat", "dog", "not found"]
    assert "scores above 0.3" in figure.axes[0].get_xlabel()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["cat", "dog", "overlaps none by 0.5"]


def test_thresholds_and_offset_reach_all_figures():
    # Sides 2 x 2 and 1 x 2: IoU 2/4. With a pixel more, 3 x 3 and 2 x 3: IoU 6/9, which is enough.
    truth = {0: image(([0.0, 0.0, 2.0, 2.0], 0, False))}
    predictions = {0: image(([0.0, 0.0, 1.0, 2.0], 0, 0.9))}
    without, with_offset = (find_errors(predictions, truth, 1, iou_threshold=0.6, pixel_offset=k) for k in (0, 1))
    assert (without.counts()["localisation"], with_offset.counts()["correct"]) == (1, 1)
    assert cost_of_errors(without, 1)["localisation"] == 1
    assert cost_of_errors(with_offset, 1)["localisation"] == 0
