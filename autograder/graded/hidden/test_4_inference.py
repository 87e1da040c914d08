"""Part 4, hidden: many boxes, exact thresholds, speed, off-square images, ranking, empty results."""

import time

import pytest
import torch

from autograder.compare import Mismatch
from autograder.oracle import solve
from autograder.plugin import task
from autograder.rules import (
    EXACT,
    LAST_PIXEL,
    SPEED_FACTOR,
    assert_call,
    assert_detections,
    assert_inside,
    granted_seconds,
    sorted_detections,
)


@task("4.1", "general")
@pytest.mark.parametrize("name", ["nms_strict", "nms_usual", "nms_lenient", "nms_nothing_removed"])
def test_nms_of_hundreds_of_boxes(submission, fresh, name):
    """Exact order with low, usual and high thresholds."""
    assert_call(submission, fresh(name), "the kept indices", EXACT)


@task("4.1", "threshold")
@pytest.mark.parametrize("name", ["nms_threshold", "nms_just_above"])
def test_nms_at_the_threshold(submission, reference, name):
    """IoU equal to the threshold stays, IoU above it goes."""
    assert_call(submission, reference(name), "the kept indices", EXACT)


@task("4.1", "speed")
def test_nms_of_thousands_of_boxes_is_fast(submission, fresh):
    """5000 boxes within a multiple of the reference's time, both measured here, from outside, one after the other."""
    case, small = fresh("nms_large"), fresh("nms_nothing_removed")
    started = time.monotonic()
    solve(case.probe, case.inputs)
    reference_seconds = time.monotonic() - started
    # What a probe costs before the function is called: the fork, the import of the submission.
    start_seconds = submission.outcome(small).seconds
    seconds = min(granted_seconds(start_seconds, reference_seconds), submission.task.seconds)
    outcome = submission.outcome(case, seconds=seconds)
    if outcome.status == "timeout":
        raise Mismatch(
            f"{len(case.inputs['arguments']['boxes'])} boxes take more than {SPEED_FACTOR} times the time of a "
            "vectorised implementation. Compute one box against all the others at once, in tensors"
        )
    kept = submission.value_of(outcome)
    if not isinstance(kept, torch.Tensor) or kept.dim() != 1:
        raise Mismatch("the kept indices are not a vector")
    # Of some million pairs a few lie so near the threshold that rounding decides: nearly all must agree, both ways.
    kept, expected = set(kept.tolist()), set(case.expected.tolist())
    if len(kept & expected) < 0.99 * max(len(kept), len(expected)):
        raise Mismatch("the wrong boxes are kept")


@task("4.2", "off-square")
@pytest.mark.parametrize("name", ["detections_clipped", "detections_clipped_tall"])
def test_boxes_are_clipped_to_an_off_square_image(submission, fresh, name):
    """x by the width, y by the height; the last pixel may be W or W - 1."""
    case = fresh(name)
    assert_detections(submission, case, "boxes", boxes=LAST_PIXEL)
    assert_inside(submission, case)


@task("4.2", "ranking")
def test_scores_combine_class_and_centerness(submission, fresh):
    """Best class per location, square root of the product, threshold on that score; low scores are removed."""
    assert_detections(submission, fresh("detections_ranking"), "scores", "classes", "boxes")


@task("4.2", "ranking")
def test_thresholds_have_defaults(submission, fresh):
    """Scores above 0.3, overlaps up to 0.5, when no threshold is given."""
    assert_detections(submission, fresh("detections_defaults"), "scores", "classes", "boxes")


@task("4.2", "class-wise")
def test_classes_do_not_suppress_each_other(submission, fresh):
    """Of boxes that overlap, the best of each class stays."""
    assert_detections(submission, fresh("detections_class_wise"), "scores", "classes")


@task("4.2", "empty")
def test_an_image_without_detections(submission, reference, fresh):
    """Three empty tensors, (0, 4), (0,) and (0,), for this image and not for every image."""
    boxes, classes, scores = sorted_detections(submission.run(reference("detections_none")))
    if len(boxes) or len(classes) or len(scores):
        raise Mismatch("detections were returned where none scores above the threshold")
    if not len(sorted_detections(submission.run(fresh("detections_ranking")))[0]):
        raise Mismatch("nothing is detected where scores are above the threshold")
