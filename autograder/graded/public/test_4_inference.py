"""Part 4: from predictions to detections."""

from autograder import patterns
from autograder.compare import Tolerance, compare_tensor
from autograder.plugin import task
from autograder.rules import assert_call, sorted_detections


@task("4.1", "values")
def test_nms_keeps_the_best_box_of_each_group(submission, reference):
    """Indices of the kept boxes, highest score first."""
    assert_call(submission, reference("nms"), "the kept indices", patterns.nms_mistakes)


@task("4.1", "empty")
def test_nms_of_no_box(submission, reference):
    """No box in, no index out."""
    assert_call(submission, reference("nms_no_box"), "the kept indices", patterns.nms_mistakes)


@task("4.1", "empty")
def test_nms_of_one_box(submission, reference):
    """One box stays."""
    assert_call(submission, reference("nms_one_box"), "the kept indices", patterns.nms_mistakes)


@task("4.2", "boxes")
def test_detected_boxes(submission, reference):
    """Boxes of the locations whose score is above the threshold, after NMS."""
    case = reference("detections")
    boxes, _, _ = sorted_detections(submission.run(case))
    compare_tensor(boxes, sorted_detections(case.expected)[0], "boxes", Tolerance(1e-4, 1e-2))


@task("4.2", "scores")
def test_detected_classes_and_scores(submission, reference):
    """Score = sqrt(sigmoid(class logit) * sigmoid(centerness logit)), of the best class."""
    case = reference("detections")
    _, classes, scores = sorted_detections(submission.run(case))
    _, expected_classes, expected_scores = sorted_detections(case.expected)
    compare_tensor(scores, expected_scores, "scores", Tolerance(1e-4, 1e-4))
    compare_tensor(classes, expected_classes, "classes", Tolerance(0, 1e-6))
