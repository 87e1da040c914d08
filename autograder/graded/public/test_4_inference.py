"""Part 4: from predictions to detections."""

from autograder.plugin import task
from autograder.rules import EXACT, assert_call, assert_detections


@task("4.1", "values")
def test_nms_keeps_the_best_box_of_each_group(submission, reference):
    """Indices of the kept boxes, highest score first."""
    assert_call(submission, reference("nms"), "the kept indices", EXACT)


@task("4.1", "empty")
def test_nms_of_no_box(submission, reference):
    """No box in, no index out."""
    assert_call(submission, reference("nms_no_box"), "the kept indices", EXACT)


@task("4.1", "empty")
def test_nms_of_one_box(submission, reference):
    """One box stays."""
    assert_call(submission, reference("nms_one_box"), "the kept indices", EXACT)


@task("4.1", "empty")
def test_nms_of_the_same_box_twice(submission, reference):
    """The better of two equal boxes stays."""
    assert_call(submission, reference("nms_same_box"), "the kept indices", EXACT)


@task("4.2", "boxes")
def test_detected_boxes(submission, reference):
    """Boxes of the locations whose score is above the threshold, after NMS."""
    assert_detections(submission, reference("detections"), "boxes")


@task("4.2", "scores")
def test_detected_classes_and_scores(submission, reference):
    """Score = sqrt(sigmoid(class logit) * sigmoid(centerness logit)), of the best class."""
    assert_detections(submission, reference("detections"), "scores", "classes")
