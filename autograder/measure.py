"""Measures a trained detector: the worker runs it on held-out images, and what it finds is scored here.

The worker gets pixels and gives boxes; the truth stays on this side. Scored as in the assignment: VOC's average
precision, area under the curve, at IoU 0.5, difficult objects neither for nor against, whole images.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from autograder.case import Case
from autograder.compare import Mismatch
from autograder.held_out import HeldOutImages
from autograder.intake import WEIGHTS
from autograder.rules import sorted_detections
from autograder.session import GradedSubmission
from helpers.annotations import VOC_CLASSES
from helpers.evaluation import evaluate_voc

PER_PROBE = 32  # images
MOST_SECONDS = 1800.0  # of all probes together; the other tasks have a budget of their own
MOST_DETECTIONS = 300  # of one image, the surest: far more than there are objects
THRESHOLDS = {"test_score_thresh": 0.05, "test_nms_thresh": 0.5}
SHOWN_SCORE, MOST_SHOWN = 0.3, 10  # in pictures


@dataclass(frozen=True)
class Measurement:
    """How good a detector is.

    Attributes:
        mean_ap: 0 to 1, to four places.
        images: that it was measured on.
        pictures: id of an image -> its surest detections, [x1, y1, x2, y2, class name, score] each, pixels of the file.
    """

    mean_ap: float
    images: int
    pictures: dict[str, list] = field(default_factory=dict)


def measure(submission: GradedSubmission, images: HeldOutImages, problem: str = "") -> Measurement:
    """Run a submission's detector, with its own weights and nothing replaced, and score what it finds.

    Args:
        submission: while the task is graded that measures.
        images: to run it on.
        problem: with the file of weights, where it is known already.

    Raises:
        Mismatch: there are no weights, they do not fit, or the detector gave no detections.
    """
    if not (submission.folder / WEIGHTS).is_file():
        raise Mismatch(f"{WEIGHTS} is missing: hand in the weights of your trained detector")
    if problem:
        raise Mismatch(problem)
    submission.worker.allow(MOST_SECONDS)
    found = {}
    for first in range(0, len(images), PER_PROBE):
        numbers = range(first, min(first + PER_PROBE, len(images)))
        pixels = [torch.from_numpy(images.pixels(n)) for n in numbers]
        case = Case("detect", {"images": pixels, "thresholds": THRESHOLDS, "most": MOST_DETECTIONS}, expected=None)
        answers = submission.value_of(submission.outcome(case))
        if not isinstance(answers, list) or len(answers) != len(numbers):
            raise Mismatch("there is not one answer for each image")
        for n, answer in zip(numbers, answers, strict=True):
            boxes, classes, scores = _checked(answer)
            boxes = images.in_file(n, boxes)
            kept = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)  # the others lie in the padding, as in `helpers.detect`
            kept &= scores > THRESHOLDS["test_score_thresh"]  # for everybody, whatever their `inference` does with it
            found[n] = (boxes[kept], classes[kept], scores[kept])
    mean_ap = evaluate_voc(found, images.truth, len(VOC_CLASSES)).mean_ap
    return Measurement(round(mean_ap, 4), len(images), {images.id(n): _shown(*found[n]) for n in images.shown})


def _checked(answer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (N, 4), classes (N,), scores (N,) of one image, surest first, when they are what they should be."""
    boxes, classes, scores = (tensor.double().numpy() for tensor in sorted_detections(answer))
    if len(boxes) > MOST_DETECTIONS:  # the worker keeps the best, so somebody has meddled with it
        raise Mismatch(f"more than {MOST_DETECTIONS} detections came for an image")
    for values, what in ((boxes, "boxes"), (classes, "classes"), (scores, "scores")):
        if not np.isfinite(values).all():
            raise Mismatch(f"{what} of detections are not finite")
    if not np.isin(classes, np.arange(len(VOC_CLASSES))).all():
        raise Mismatch(f"classes of detections are not whole numbers from 0 to {len(VOC_CLASSES) - 1}")
    if ((scores < 0) | (scores > 1.001)).any():
        raise Mismatch("scores of detections do not lie between 0 and 1")
    return boxes, classes, scores


def _shown(boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray) -> list:
    rows = zip(boxes.round(1).tolist(), classes, scores.round(2).tolist(), strict=True)
    sure = [[*box, VOC_CLASSES[int(kind)], score] for box, kind, score in rows if score > SHOWN_SCORE]
    return sure[:MOST_SHOWN]
