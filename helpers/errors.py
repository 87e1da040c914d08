"""What kind of mistakes a detector makes, and what each kind costs.

    duplicate     right class and place, but a surer detection has found the object already
    localisation  right class, overlap too small (0.1 to 0.5)
    class         right place, wrong class
    both          wrong class and overlap too small
    background    overlaps no object by 0.1
    missed        an object that none of the above explains

Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2.2.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from helpers.drawing import BLUE, ORANGE, new_figure
from helpers.evaluation import Boxes, evaluate_voc, keep_above, match_voc, overlapping_pairs, stack

KINDS = ("correct", "ignored", "duplicate", "localisation", "class", "both", "background")
CORRECT, IGNORED, DUPLICATE, LOCALISATION, CLASS, BOTH, BACKGROUND = range(len(KINDS))
MISTAKES = (*KINDS[DUPLICATE:], "missed")
LOOSE = 0.1  # overlap below which a box has nothing to do with an object


@dataclass(frozen=True)
class Errors:
    """Every detection and every object with what became of it; detections are sorted, surest first."""

    detections: Boxes
    scores: np.ndarray  # (N,)
    kind: np.ndarray  # (N,) index into KINDS
    nearest: np.ndarray  # (N,) object that the mistake is about, -1 for background
    objects: Boxes
    difficult: np.ndarray  # (G,) bool
    missed: np.ndarray  # (G,) bool
    images: tuple  # image ids
    confusion: np.ndarray  # (K + 1, K + 1) true class by named class; last row: nothing there, last column: not found
    score_threshold: float  # detections up to this score were left out
    iou_threshold: float  # overlap that a right detection needs
    pixel_offset: float  # added to widths and heights, see `evaluate_voc`

    def counts(self) -> dict[str, int]:
        """How often each kind occurs: correct ones and mistakes, the missed objects last."""
        counted = {name: int(np.count_nonzero(self.kind == k)) for k, name in enumerate(KINDS) if k != IGNORED}
        return {**counted, "missed": int(np.count_nonzero(self.missed))}


def find_errors(
    predictions: Mapping,
    ground_truth: Mapping,
    num_classes: int,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
    pixel_offset: float = 0,
) -> Errors:
    """Sort all detections above a score by the kind of mistake that they are.

    Args:
        predictions: as in `helpers.evaluation.evaluate_voc`.
        ground_truth: the same.
        num_classes: K.
        score_threshold: detections at or below it are left out: nobody would look at them.
        iou_threshold: overlap that a right detection needs.
        pixel_offset: as in `evaluate_voc`.

    Returns:
        The `Errors`. Detections that found a difficult object are neither right nor wrong.

    Raises:
        ValueError: as in `evaluate_voc`.
    """
    stacked = stack(keep_above(predictions, score_threshold), ground_truth, num_classes)
    detections, scores, objects, difficult = stacked
    order = np.argsort(-scores, kind="stable")
    detections, scores = detections[order], scores[order]
    n, g = len(order), len(difficult)

    # All pairs of one image, whatever their classes.
    loose, pairs = min(LOOSE, iou_threshold), (detections.boxes, detections.image, objects.boxes, objects.image)
    a, b, iou = overlapping_pairs(*pairs, loose, pixel_offset)
    same, tight = detections.classes[a] == objects.classes[b], iou >= iou_threshold
    found = match_voc(a[same & tight], b[same & tight], iou[same & tight], n, difficult)

    kind, nearest = np.full(n, BACKGROUND), np.full(n, -1)
    # From the least to the most specific: what comes later overwrites.
    for label, pairs in (
        (BOTH, ~same & ~tight),
        (CLASS, ~same & tight),
        (LOCALISATION, same & ~tight),
        (DUPLICATE, same & tight),
    ):
        best = _best_partner(a[pairs], b[pairs], iou[pairs], n)
        kind[best >= 0], nearest[best >= 0] = label, best[best >= 0]
    hits = found >= 0
    nearest[hits] = found[hits]
    kind[hits] = np.where(difficult[found[hits]], IGNORED, CORRECT)

    explained = np.zeros(g, bool)
    explained[nearest[np.isin(kind, (CORRECT, LOCALISATION, CLASS))]] = True
    missed = ~explained & ~difficult
    confusion = _confusion(detections, objects, difficult, a[tight], b[tight], iou[tight], num_classes)
    thresholds = (score_threshold, iou_threshold, pixel_offset)
    images = tuple(ground_truth)
    return Errors(detections, scores, kind, nearest, objects, difficult, missed, images, confusion, *thresholds)


def _best_partner(a: np.ndarray, b: np.ndarray, iou: np.ndarray, count: int) -> np.ndarray:
    """For each detection the object of its best pair, or -1."""
    best = np.full(count, -1)
    order = np.argsort(iou, kind="stable")
    best[a[order]] = b[order]  # the last one written is the best
    return best


def _confusion(detections, objects, difficult, a, b, iou, num_classes) -> np.ndarray:
    """Objects by true and by named class; a detection is given to the object it overlaps most, of any class."""
    found = match_voc(a, b, iou, len(detections.classes), difficult)
    matrix = np.zeros((num_classes + 1, num_classes + 1), int)
    hits = found >= 0
    hits[hits] = ~difficult[found[hits]]
    np.add.at(matrix, (objects.classes[found[hits]], detections.classes[hits]), 1)
    overlaps_none = ~np.isin(np.arange(len(found)), a)  # duplicates confuse nothing: they are left out
    np.add.at(matrix, (num_classes, detections.classes[overlaps_none]), 1)
    not_found = ~difficult
    not_found[found[hits]] = False
    np.add.at(matrix, (objects.classes[not_found], num_classes), 1)
    return matrix


def cost_of_errors(errors: Errors, num_classes: int) -> dict[str, float]:
    """How much mAP would rise if one kind of mistake were mended and all others stayed.

    A class or a place is corrected (or the detection dropped, where its object is found anyway); a detection of any
    other kind is dropped; missed objects are taken off the list.

    Args:
        errors: from `find_errors`.
        num_classes: K.

    Returns:
        Kind -> gain in mAP, 0 to 1. The gains do not add up: mistakes hide each other.
    """
    images = range(len(errors.images))
    detections, objects = errors.detections, errors.objects
    found = errors.nearest[errors.kind == CORRECT]

    def mean_ap(detections=detections, keep=slice(None), there=slice(None)):
        predictions = _by_image(detections[keep], errors.scores[keep], images)
        ground_truth = _by_image(objects[there], errors.difficult[there], images)
        overlap, offset = errors.iou_threshold, errors.pixel_offset
        return evaluate_voc(predictions, ground_truth, num_classes, overlap, pixel_offset=offset).mean_ap

    before, cost = mean_ap(), {}
    for label in (DUPLICATE, LOCALISATION, CLASS, BOTH, BACKGROUND):
        keep, mended = errors.kind != label, detections
        if label in (LOCALISATION, CLASS):
            # Of several mistakes about one object only the surest turns into a right detection.
            candidates = np.flatnonzero(~keep & ~np.isin(errors.nearest, found))
            target, first = np.unique(errors.nearest[candidates], return_index=True)
            boxes, classes = detections.boxes.copy(), detections.classes.copy()
            boxes[candidates[first]], classes[candidates[first]] = objects.boxes[target], objects.classes[target]
            keep[candidates[first]] = True
            mended = Boxes(detections.image, boxes, classes)
        cost[KINDS[label]] = mean_ap(mended, keep) - before
    nothing_left = (errors.missed | errors.difficult).all()
    cost["missed"] = (1.0 if nothing_left else mean_ap(there=~errors.missed)) - before
    return cost


def _by_image(boxes: Boxes, values: np.ndarray, images) -> dict:
    order = np.argsort(boxes.image, kind="stable")
    ends = np.searchsorted(boxes.image[order], np.append(images, len(images)))
    parts = (order[first:last] for first, last in itertools.pairwise(ends))
    return {i: (boxes.boxes[part], boxes.classes[part], values[part]) for i, part in zip(images, parts)}


def error_bars(errors: Errors, cost: Mapping[str, float]):
    """Draw how often each kind of mistake occurs, and what it costs.

    Args:
        errors: from `find_errors`, of the detections that somebody would look at.
        cost: from `cost_of_errors`, of all detections, since mAP looks at all.

    Returns:
        A matplotlib figure.
    """
    counts = errors.counts()
    above = f"scores above {errors.score_threshold:g}"
    title = f"What is wrong with detections, beside the {counts['correct']} right ones ({above})"
    figure, axes = new_figure(1, 2, 9, 3.2, title, sharey=True)
    names = MISTAKES[::-1]
    for axis, values, color, label, pattern in (
        (axes[0, 0], [counts[name] for name in names], BLUE, f"how often, {above}", "{:.0f}"),
        (
            axes[0, 1],
            [100 * cost[name] for name in names],
            ORANGE,
            "points of mAP that mending it would add, all detections",
            "{:+.1f}",
        ),
    ):
        bars = axis.barh(names, values, color=color, height=0.7)
        axis.bar_label(bars, [pattern.format(value) for value in values], padding=3, fontsize=9)
        axis.set(xlabel=label)
        axis.margins(x=0.15)
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    # Objects with a box of the wrong place or class are not found, either, but counted there.
    axes[0, 0].set_yticks(range(len(names)), [{"missed": "missed entirely"}.get(name, name) for name in names])
    return figure


def confusion_figure(errors: Errors, idx_to_class: Mapping[int, str]):
    """Draw which classes are taken for which, as shares of the objects of a class.

    Args:
        errors: from `find_errors`.
        idx_to_class: class index -> name.

    Returns:
        A matplotlib figure; the last row has no objects to be a share of, and its colours are its own.
    """
    names = [idx_to_class[k] for k in range(len(errors.confusion) - 1)]
    matrix = errors.confusion.astype(float)
    size = np.append(matrix[:-1].sum(axis=1), matrix[-1].max())  # objects of each class
    shares = matrix / np.maximum(size, 1)[:, None]
    side = 2.2 + 0.32 * len(matrix)
    figure, axes = new_figure(width=side + 0.8, height=side, title="What is there (row) and what it is called (column)")
    axis, overlap = axes[0, 0], f"{errors.iou_threshold:g}"
    axis.set_xlabel(
        f"detections with scores above {errors.score_threshold:g} on the object that they overlap most, by at least "
        f"{overlap};\ncolours are shares of a row's objects, in the last row of its largest number",
        fontsize=8,
    )
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(matrix))
    axis.set_xticks(places, [*names, "not found"], rotation=90, fontsize=8)
    axis.set_yticks(places, [*names, f"overlaps none by {overlap}"], fontsize=8)
    for row, column in zip(*np.nonzero(errors.confusion)):
        color = "white" if shares[row, column] > 0.6 else "black"
        axis.text(column, row, errors.confusion[row, column], ha="center", va="center", fontsize=6.5, color=color)
    return figure
