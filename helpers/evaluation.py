"""Average precision: how good a detector is, as one number for each class.

A detection is right when it overlaps an object of its class enough and no surer detection has claimed that object.
Walk through all detections of a class from the surest to the least sure, and at each step note

    precision = right detections so far / detections so far        "how much of what it says is true"
    recall    = right detections so far / objects that exist       "how much of what is there it has found"

Average precision (AP) is the mean precision over all recalls; mAP is the mean of AP over the classes. An object that is
never found counts in the denominator of recall, so an image *without* detections must be evaluated like any other.

Source: Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, section 4.2; the VOC devkit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# mode -> number of recalls at which precision is read; None is the exact area under the curve
MODES = {"area": None, "11-point": 11, "101-point": 101}
ORIGINAL_SCORE = 0.4  # what the original assignment keeps


@dataclass(frozen=True)
class ClassResult:
    """Average precision of one class, with the curve that it comes from (one point per detection, surest first)."""

    ap: float  # NaN where the class has no object to be found
    num_objects: int  # without the difficult ones
    recall: np.ndarray  # (N,)
    precision: np.ndarray  # (N,)
    scores: np.ndarray  # (N,) descending


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate_voc`: one `ClassResult` for each class and how they were obtained."""

    classes: tuple[ClassResult, ...]
    iou_threshold: float
    mode: str

    @property
    def ap(self) -> np.ndarray:
        """Average precision of every class, (K,); NaN where a class has no object."""
        return np.array([result.ap for result in self.classes])

    @property
    def mean_ap(self) -> float:
        """Mean AP over the classes that have objects, 0 to 1."""
        return float(np.nanmean(self.ap))

    def as_dict(self, idx_to_class: Mapping[int, str] | None = None) -> dict:
        """Plain numbers for a JSON file; a class without objects has `None`, since JSON knows no NaN."""
        names = [idx_to_class[k] if idx_to_class else str(k) for k in range(len(self.classes))]
        per_class = {name: None if np.isnan(ap) else float(ap) for name, ap in zip(names, self.ap)}
        return {"mAP": self.mean_ap, "iou_threshold": self.iou_threshold, "mode": self.mode, "AP": per_class}


@dataclass(frozen=True)
class Boxes:
    """The boxes of all images below each other: no loop over images is needed from here on."""

    image: np.ndarray  # (N,) index of the image
    boxes: np.ndarray  # (N, 4) x1, y1, x2, y2 in pixels
    classes: np.ndarray  # (N,)

    def __getitem__(self, index: np.ndarray) -> "Boxes":
        return Boxes(self.image[index], self.boxes[index], self.classes[index])


def evaluate_voc(
    predictions: Mapping,
    ground_truth: Mapping,
    num_classes: int,
    iou_threshold: float = 0.5,
    mode: str = "area",
    pixel_offset: float = 0,
) -> Evaluation:
    """Average precision of every class over a whole data set.

    Args:
        predictions: image id -> (boxes (N, 4) in pixels, classes (N,), scores (N,)), tensors or arrays. An image that
            is missing here has no detection.
        ground_truth: image id -> (boxes (G, 4), classes (G,), difficult (G,) bool). Its images are the data set.
        num_classes: K; classes are 0 to K - 1.
        iou_threshold: a detection needs at least this overlap with an object.
        mode: "area" (VOC since 2010), "11-point" (VOC 2007) or "101-point" (COCO, which also lets a detection turn to
            another object when its best one is taken; VOC calls it a duplicate).
        pixel_offset: added to every side of a box. 1 for boxes as VOC's files and its devkit hold them, where both
            corner pixels belong to the box (x2 - x1 + 1); 0, for the same figure, on boxes of `VOC2007DetectionTiny`.

    Returns:
        An `Evaluation`. A detection on a difficult object counts neither for nor against.

    Raises:
        ValueError: a shape, a class or a number makes no sense, predictions for an unknown image, or no object at all.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    detections, scores, objects, difficult = stack(predictions, ground_truth, num_classes)
    if difficult.all():
        raise ValueError("the ground truth has no object (or only difficult ones), so that AP is not defined")
    order = np.argsort(-scores, kind="stable")
    detections, scores = detections[order], scores[order]

    # Only boxes of the same class in the same image can match.
    groups = [boxes.image * num_classes + boxes.classes for boxes in (detections, objects)]
    pairs = overlapping_pairs(detections.boxes, groups[0], objects.boxes, groups[1], iou_threshold, pixel_offset)
    match = match_coco if mode == "101-point" else match_voc
    found = match(*pairs, num_detections=len(order), difficult=difficult)

    correct = found >= 0
    correct[correct] = ~difficult[found[correct]]
    counted = (found < 0) | correct  # what found a difficult object counts neither way
    results = []
    for k in range(num_classes):  # curves of different lengths
        chosen = counted & (detections.classes == k)
        num_objects = np.count_nonzero((objects.classes == k) & ~difficult)
        results.append(precision_recall(correct[chosen], scores[chosen], num_objects, MODES[mode]))
    return Evaluation(tuple(results), iou_threshold, mode)


def precision_recall(correct: np.ndarray, scores: np.ndarray, num_objects: int, points: int | None) -> ClassResult:
    """Precision, recall and AP of one class.

    Args:
        correct: (N,) bool, detections from the surest to the least sure.
        scores: (N,) of these detections.
        num_objects: how many there are to be found.
        points: read precision at this many evenly spaced recalls; `None` takes the exact area.

    Returns:
        The `ClassResult`; its AP is NaN without objects.
    """
    hits = np.cumsum(correct)
    recall = hits / max(num_objects, 1)
    precision = hits / np.arange(1, len(hits) + 1)
    # Whoever wants a certain recall may ask for more, so what counts is the best precision at this recall or above.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if num_objects == 0:
        ap = float("nan")
    elif points is None:
        ap = envelope[correct].sum() / num_objects  # each right detection is a step of 1 / num_objects along recall
    else:
        # linspace, not k / 100: in floats they differ, and both the devkit and pycocotools compare with these numbers.
        step = np.searchsorted(recall, np.linspace(0, 1, points), side="left")
        ap = np.append(envelope, 0.0)[step].mean()  # a recall that is never reached has precision 0
    return ClassResult(float(ap), int(num_objects), recall, precision, scores)


def match_voc(detection, obj, iou, num_detections: int, difficult: np.ndarray) -> np.ndarray:
    """Each detection points at the object it overlaps most; the surest one wins it and the others are duplicates.

    Args:
        detection: (P,) index of the detection of a pair; detections are sorted, surest first.
        obj: (P,) index of the object of a pair.
        iou: (P,) overlap of a pair, each above the threshold.
        num_detections: N.
        difficult: (G,) bool; such an object is never used up, since it does not count.

    Returns:
        (N,) int, the object that each detection found, or -1.
    """
    found = np.full(num_detections, -1)
    order = np.lexsort((-iou, detection))
    _, best = np.unique(detection[order], return_index=True)  # the first pair of each detection
    detection, obj = detection[order][best], obj[order][best]
    _, first = np.unique(obj, return_index=True)  # the first, so the surest, detection of each object
    wins = difficult[obj]
    wins[first] = True
    found[detection[wins]] = obj[wins]
    return found


def match_coco(detection, obj, iou, num_detections: int, difficult: np.ndarray) -> np.ndarray:
    """Each detection, surest first, takes the free object that it overlaps most; called like `match_voc`."""
    found = np.full(num_detections, -1)
    free = np.ones(len(difficult), bool)
    # A loop, since what is free depends on every choice before; it only sees pairs that overlap enough.
    for p in np.lexsort((-iou, difficult[obj], detection)):
        if found[detection[p]] < 0 and free[obj[p]]:
            found[detection[p]] = obj[p]
            free[obj[p]] = difficult[obj[p]]
    return found


def overlapping_pairs(boxes_a, group_a, boxes_b, group_b, iou_threshold: float, pixel_offset: float = 0):
    """All pairs of boxes of one group that overlap enough, without a loop over the groups.

    Args:
        boxes_a: (N, 4) x1, y1, x2, y2.
        group_a: (N,) int; only boxes with the same number are compared.
        boxes_b: (G, 4).
        group_b: (G,) int.
        iou_threshold: pairs below it are left out.
        pixel_offset: added to every width and height.

    Returns:
        (a, b, iou), each (P,): index into `boxes_a`, index into `boxes_b`, intersection over union.
    """
    # Sort b by group: the partners of a box in a are then one slice [first, last) of b.
    order = np.argsort(group_b, kind="stable")
    first = np.searchsorted(group_b[order], group_a, side="left")
    count = np.searchsorted(group_b[order], group_a, side="right") - first
    a = np.repeat(np.arange(len(group_a)), count)
    within = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)  # 0, 1, ... inside each slice
    b = order[np.repeat(first, count) + within]

    def area(x1, y1, x2, y2):
        return np.clip(x2 - x1 + pixel_offset, 0, None) * np.clip(y2 - y1 + pixel_offset, 0, None)

    one, other = boxes_a[a].T, boxes_b[b].T  # (4, P) each
    shared = area(*np.maximum(one, other)[:2], *np.minimum(one, other)[2:])
    iou = shared / np.maximum(area(*one) + area(*other) - shared, np.finfo(float).tiny)
    enough = iou >= iou_threshold
    return a[enough], b[enough], iou[enough]


def stack(predictions: Mapping, ground_truth: Mapping, num_classes: int) -> tuple:
    """Put the detections and the objects of all images into one `Boxes` each, after a check that they make sense.

    Args:
        predictions: as in `evaluate_voc`.
        ground_truth: as in `evaluate_voc`.
        num_classes: K.

    Returns:
        (detections, scores (N,), objects, difficult (G,) bool), images numbered in the order of `ground_truth`.

    Raises:
        ValueError: as in `evaluate_voc`, naming the image.
    """
    unknown = [image_id for image_id in predictions if image_id not in ground_truth]
    if unknown:
        raise ValueError(f"predictions for {len(unknown)} images that the ground truth lacks, such as {unknown[0]!r}")
    nothing = (np.empty((0, 4)), np.empty(0), np.empty(0))
    predictions = {image_id: predictions.get(image_id, nothing) for image_id in ground_truth}
    detections, scores = _stack(predictions, num_classes, "predictions")
    objects, difficult = _stack(ground_truth, num_classes, "ground truth")
    return detections, scores, objects, difficult.astype(bool)


def _stack(per_image: Mapping, num_classes: int, what: str) -> tuple[Boxes, np.ndarray]:
    names = list(per_image)
    rows = [tuple(map(_array, per_image[name])) for name in names]
    for name, (boxes, classes, values) in zip(names, rows):
        if boxes.shape != (len(boxes), 4) or not classes.shape == values.shape == (len(boxes),):
            shapes = f"{boxes.shape}, {classes.shape}, {values.shape}"
            raise ValueError(f"{what} of image {name!r}: expected shapes (N, 4), (N,), (N,), got {shapes}")
    rows.append((np.empty((0, 4)), np.empty(0), np.empty(0)))  # so that a data set of no images stacks too
    boxes, classes, values = (np.concatenate(column) for column in zip(*rows))
    image = np.repeat(np.arange(len(rows)), [len(row[0]) for row in rows])

    sound = np.isfinite(boxes).all(axis=1) & np.isfinite(values) & np.isin(classes, np.arange(num_classes))
    if not sound.all():
        n = int(np.argmin(sound))
        raise ValueError(
            f"{what} of image {names[image[n]]!r}: box {boxes[n].tolist()}, class {classes[n]:g}, value {values[n]:g}; "
            f"numbers must be finite and classes 0 to {num_classes - 1}"
        )
    return Boxes(image, boxes, classes.astype(np.int64)), values


def _array(values) -> np.ndarray:
    """A tensor on any device, an array or a list, as float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def keep_above(predictions: Mapping, score_threshold: float) -> dict:
    """The same predictions without the detections that score `score_threshold` or less.

    Args:
        predictions: as in `evaluate_voc`.
        score_threshold: 0 to 1.

    Returns:
        A new dictionary with the same images.
    """
    kept = {}
    for image_id, (boxes, classes, scores) in predictions.items():
        sure = scores > score_threshold
        kept[image_id] = (boxes[sure], classes[sure], scores[sure])
    return kept


def evaluate_as_original(
    predictions: Mapping, ground_truth: Mapping, num_classes: int, score_threshold: float = ORIGINAL_SCORE
):
    """The figure that the original assignment would print for these detections: wrong, and shown beside the right one.

    It keeps only scores above 0.4, which cuts the curve off, it leaves out every image without a detection
    *together with its objects*, so that what was missed there vanishes from recall, and its lists lack the difficult
    objects, so that to find one is a mistake.

    Args:
        predictions: as in `evaluate_voc`.
        ground_truth: as in `evaluate_voc`.
        num_classes: K.
        score_threshold: detections at or below it are dropped.

    Returns:
        An `Evaluation`, or `None` when no image has a detection and so nothing is left to be evaluated.
    """
    kept = {i: row for i, row in keep_above(predictions, score_threshold).items() if len(row[2])}
    seen = {i: tuple(_array(part) for part in row) for i, row in ground_truth.items() if i in kept}
    listed = {i: tuple(part[~row[2].astype(bool)] for part in row) for i, row in seen.items()}
    has_object = any(len(difficult) for _, _, difficult in listed.values())
    return evaluate_voc(kept, listed, num_classes) if has_object else None
