"""A gallery of what a detector got wrong, the worst images first: reading it says more than any single number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from helpers.drawing import PREDICTION_STYLE, RED, TRUTH_STYLE, as_numpy, draw_boxes, new_figure, show_image
from helpers.evaluation import match_voc, overlapping_pairs

MOST_LABELS = 4  # of missed objects, and of wrong detections, in one image


@dataclass(frozen=True)
class Misses:
    """What went wrong in one image."""

    missed: np.ndarray  # indices of objects that no detection of their class found; difficult ones are left out
    wrong: np.ndarray  # indices of detections that overlap no object of their class enough, surest first
    sure: np.ndarray  # indices of the detections that were looked at, surest first

    def __len__(self) -> int:
        return len(self.missed) + len(self.wrong)


def find_misses(prediction, truth, score_threshold: float = 0.4, iou_threshold: float = 0.5) -> Misses:
    """Compare the detections of one image with its objects.

    Args:
        prediction: boxes (N, 4), classes (N,), scores (N,).
        truth: boxes (G, 4), classes (G,), difficult (G,) bool.
        score_threshold: detections below it are not looked at.
        iou_threshold: overlap from which on an object counts as found.

    Returns:
        The `Misses`. A detection finds one object, as in `evaluate_voc`, also where it covers two. A second detection
        of an object that was found is not listed: NMS is to blame, not the detector.
    """
    boxes, classes, scores = as_numpy(prediction[0], 4), as_numpy(prediction[1]), as_numpy(prediction[2])
    objects, object_classes, difficult = as_numpy(truth[0], 4), as_numpy(truth[1]), as_numpy(truth[2]).astype(bool)
    sure = np.argsort(-scores, kind="stable")
    sure = sure[scores[sure] > score_threshold]
    a, b, iou = overlapping_pairs(boxes[sure], classes[sure], objects, object_classes, iou_threshold)
    found = match_voc(a, b, iou, len(sure), difficult)
    missed = np.setdiff1d(np.flatnonzero(~difficult), found)
    wrong = np.delete(sure, np.unique(a))
    return Misses(missed, wrong, sure)


def miss_gallery(
    images: Sequence,
    predictions: Mapping[int, tuple],
    ground_truth: Mapping[int, tuple],
    idx_to_class: Mapping[int, str],
    score_threshold: float = 0.4,
    iou_threshold: float = 0.5,
    count: int = 8,
    columns: int = 4,
):
    """Show the images where least is right, and of those the ones where the detector was surest of its mistake.

    Images of crowds have more mistakes than any other, and teach less.

    Args:
        images: data set whose item n is (path, image, boxes), or a sequence of images.
        predictions: n -> boxes (N, 4) in pixels, classes (N,), scores (N,); an image that is missing has none.
        ground_truth: n -> boxes (G, 4), classes (G,), difficult (G,) bool.
        idx_to_class: class index -> name.
        score_threshold: detections below it are not shown.
        iou_threshold: as in `find_misses`.
        count: how many images to show at most.
        columns: images in a row.

    Returns:
        A matplotlib figure; one that says so when there is no mistake.
    """
    predictions = {n: predictions.get(n, ([], [], [])) for n in ground_truth}
    misses = {n: find_misses(predictions[n], ground_truth[n], score_threshold, iou_threshold) for n in predictions}

    def badness(n):
        right = int((~as_numpy(ground_truth[n][2]).astype(bool)).sum()) - len(misses[n].missed)
        surest = max(as_numpy(predictions[n][2])[misses[n].wrong], default=0.0)
        return len(misses[n]) / (len(misses[n]) + right), surest

    worst = sorted((n for n in misses if len(misses[n])), key=badness, reverse=True)[:count]
    if not worst:
        figure, axes = new_figure(width=6, height=1.2)
        axes[0, 0].set_axis_off()
        axes[0, 0].text(0.5, 0.5, f"Nothing missed, nothing wrong at a score above {score_threshold:g}.", ha="center")
        return figure
    columns = min(columns, len(worst))
    rows = -(-len(worst) // columns)
    title = (
        f"The worst misses: red objects were not found, dashed detections above {score_threshold:g} are wrong,\n"
        "blue objects were found, or are difficult"
    )
    figure, axes = new_figure(rows, columns, max(3.1 * columns, 7.5), 0.6 + 2.9 * rows, title)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, n in zip(axes.flat, worst):
        _draw_misses(axis, images[n], predictions[n], ground_truth[n], idx_to_class, misses[n])
    return figure


def _draw_misses(axis, image, prediction, truth, idx_to_class, misses: Misses) -> None:
    name = f"{Path(image[0]).stem}: " if isinstance(image, tuple) else ""
    image = image[1] if isinstance(image, tuple) else image
    show_image(axis, image, f"{name}{len(misses.missed)} missed, {len(misses.wrong)} wrong")
    objects, object_classes = as_numpy(truth[0], 4), as_numpy(truth[1]).astype(int)
    found = np.setdiff1d(np.arange(len(objects)), misses.missed)
    draw_boxes(axis, objects[found], {**TRUTH_STYLE, "alpha": 0.7})
    names = [idx_to_class[k] for k in object_classes[misses.missed]]
    draw_boxes(axis, objects[misses.missed], {"color": RED, "linestyle": "-"}, _few(names))
    boxes, classes, scores = (torch.as_tensor(part).detach().cpu() for part in prediction)
    labels = [f"{idx_to_class[int(classes[k])]} {scores[k]:.2f}" for k in misses.wrong]
    draw_boxes(axis, boxes[misses.wrong], PREDICTION_STYLE, _few(labels), inside=True)


def _few(labels: list[str]) -> list[str]:
    """Keep the first labels: more of them would cover the image."""
    return [label if n < MOST_LABELS else "" for n, label in enumerate(labels)]
