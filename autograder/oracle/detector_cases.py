"""Inputs of the graded tests of NMS, the losses and inference. See `cases`."""

import torch

from autograder.oracle.cases import (
    STRIDES,
    case,
    function_call,
    locations_for,
    normal,
    predictions_for,
    random_boxes,
    uniform,
)

# --- 2.5 matching


def _match_call(height, width, boxes):
    return function_call(
        "fcos_match_locations_to_gt",
        locations_per_fpn_level=locations_for(height, width),
        strides_per_fpn_level=STRIDES,
        gt_boxes=boxes,
    )


def ground_truth(generator, images, boxes_per_image, height, width, num_classes, dtype=torch.float32):
    """(B, M, 5) boxes with classes; `boxes_per_image` lists the number in each image, the rest is padding."""
    padded = torch.full((images, max([*boxes_per_image, 1]), 5), -1.0, dtype=dtype)
    for i, count in enumerate(boxes_per_image):
        padded[i, :count, :4] = random_boxes(generator, count, height, width, smallest=16, dtype=dtype)
        padded[i, :count, 4] = torch.randint(0, num_classes, (count,), generator=generator).to(dtype)
    return padded


@case("public")
def match(generator):
    """Three boxes of different sizes on a square image."""
    return _match_call(128, 128, ground_truth(generator, 1, [3], 128, 128, 20)[0])


@case("fresh")
def match_off_square(generator):
    """Many overlapping boxes, one over the whole width, and padding rows on an off-square image."""
    boxes = ground_truth(generator, 1, [12], 96, 640, 20)[0]
    # Its sides are farther from p5 locations than 8 strides, 256 pixels: the coarsest level has no upper end.
    wide = torch.tensor([[2.0, 2.0, 638.0, 94.0, 5.0]])
    return _match_call(96, 640, torch.cat([boxes, wide, torch.full((3, 5), -1.0)]))


@case("hidden")
def match_no_box(generator):
    """No box at all: every row is -1."""
    return _match_call(64, 96, torch.empty(0, 5))


@case("hidden")
def match_padding_only(generator):
    """Only padding rows."""
    return _match_call(64, 96, torch.full((2, 5), -1.0))


@case("hidden")
def match_borders(generator):
    """Largest distances of exactly 64 and 128 pixels belong to both neighbouring levels: the ends of a range count."""
    # The p3 location (60, 60) and the p4 location (56, 56) lie 64 and 128 pixels from sides that are put there.
    boxes = torch.tensor([[52.0, 52.0, 124.0, 68.0, 3.0], [40.0, 44.0, 72.0, 184.0, 7.0]])
    return _match_call(256, 256, boxes)


# Two boxes of 40 x 20 and 20 x 40 pixels, of equal area to the last bit, that overlap around (25, 20).
_EQUAL_AREAS = [[10.0, 10.0, 50.0, 30.0, 3.0], [15.0, 4.0, 35.0, 44.0, 7.0]]


@case("hidden")
def match_equal_areas(generator):
    """Two overlapping boxes of equal area."""
    return _match_call(64, 96, torch.tensor(_EQUAL_AREAS))


@case("hidden")
def match_equal_areas_turned(generator):
    """The same two boxes listed in the other order: with the case above, the two answers that are right."""
    return _match_call(64, 96, torch.tensor(_EQUAL_AREAS[::-1]))


# --- 3.1 losses


def _step(generator, batch, boxes_per_image, height, width, num_classes, dtype=torch.float32):
    return {
        "images": normal(generator, batch, 3, height, width, dtype=dtype),
        "gt_boxes": ground_truth(generator, batch, boxes_per_image, height, width, num_classes, dtype),
        "predictions": predictions_for(generator, height, width, num_classes, batch, dtype),
    }


@case("public")
def losses(generator):
    """One batch of two square images, 20 classes."""
    return "fcos_losses", {"num_classes": 20, "steps": [_step(generator, 2, [2, 4], 128, 128, 20)]}


@case("fresh")
def losses_general(generator):
    """Three off-square images, 7 classes."""
    return "fcos_losses", {"num_classes": 7, "steps": [_step(generator, 3, [1, 5, 3], 96, 160, 7)]}


@case("fresh")
def losses_single(generator):
    """A batch of one, 3 classes."""
    step = _step(generator, 1, [4], 160, 64, 3)
    return "fcos_losses", {"num_classes": 3, "steps": [step]}


@case("fresh")
def losses_normalizer(generator):
    """Three batches in a row with very different numbers of foreground locations."""
    counts = ([1, 1], [6, 8], [2, 1])
    return "fcos_losses", {"num_classes": 5, "steps": [_step(generator, 2, count, 96, 128, 5) for count in counts]}


@case("fresh")
def losses_some_empty(generator):
    """A batch in which one image has no object."""
    return "fcos_losses", {"num_classes": 5, "steps": [_step(generator, 2, [3, 0], 96, 128, 5)]}


@case("fresh")
def losses_all_empty(generator):
    """A batch in which no image has an object."""
    return "fcos_losses", {"num_classes": 5, "steps": [_step(generator, 2, [0, 0], 64, 96, 5)]}


@case("fresh")
def eval_mode(generator):
    """One off-square image in eval mode, with thresholds of its own."""
    return "fcos_eval", {
        "num_classes": 4,
        "images": normal(generator, 1, 3, 64, 96),
        "predictions": predictions_for(generator, 64, 96, 4),
        "score_thresh": 0.17,
        "nms_thresh": 0.61,
    }


# --- 4.1 NMS


def _clear_of(boxes, iou_threshold, margin=2e-6):
    """Whether no two boxes overlap so nearly by the threshold that rounding could decide."""
    boxes = boxes.double()
    sides = torch.minimum(boxes[:, None, 2:], boxes[:, 2:]) - torch.maximum(boxes[:, None, :2], boxes[:, :2])
    intersection = sides.clamp(min=0).prod(dim=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    iou = (intersection / (areas[:, None] + areas - intersection)).fill_diagonal_(0)  # of itself: always 1
    return bool(((iou - iou_threshold).abs() > margin).all())


def _nms_call(generator, count, iou_threshold):
    boxes = random_boxes(generator, count, 200, 300, smallest=30)
    while not _clear_of(boxes, iou_threshold):
        boxes = random_boxes(generator, count, 200, 300, smallest=30)
    return function_call("nms", boxes=boxes, scores=_distinct_scores(generator, count), iou_threshold=iou_threshold)


def _distinct_scores(generator, count):
    """(count,) scores in random order, no two alike, so that the order of the result is unique."""
    return (torch.randperm(count, generator=generator) + 0.5) / count


@case("public")
def nms(generator):
    """Forty random boxes."""
    return _nms_call(generator, 40, 0.5)


@case("public")
def nms_no_box(generator):
    """No box at all."""
    return function_call("nms", boxes=torch.empty(0, 4), scores=torch.empty(0), iou_threshold=0.5)


@case("public")
def nms_one_box(generator):
    """One box."""
    return function_call("nms", boxes=torch.tensor([[3.0, 4, 50, 60]]), scores=torch.tensor([0.3]), iou_threshold=0.5)


@case("public")
def nms_same_box(generator):
    """The same box twice: the one with the higher score stays."""
    _, inputs = nms_one_box(generator)
    box = inputs["arguments"]["boxes"]
    return function_call("nms", boxes=torch.cat([box, box]), scores=torch.tensor([0.2, 0.3]), iou_threshold=0.5)


@case("fresh")
def nms_strict(generator):
    """Two hundred boxes, low threshold."""
    return _nms_call(generator, 200, 0.2)


@case("fresh")
def nms_usual(generator):
    """Two hundred boxes, usual threshold."""
    return _nms_call(generator, 200, 0.55)


@case("fresh")
def nms_lenient(generator):
    """Two hundred boxes, high threshold."""
    return _nms_call(generator, 200, 0.85)


@case("fresh")
def nms_nothing_removed(generator):
    """Threshold 1: no overlap is greater, so all stay, and a loop that waits for boxes to go never ends."""
    return _nms_call(generator, 30, 1.0)


@case("hidden")
def nms_threshold(generator):
    """Pairs whose IoU is exactly 0.5, 0.25 or 0.75 in binary, at exactly that threshold: both stay."""
    # Intersection over union of [0, 0, 8, 8] and [0, 0, 8, 4]: 32 / 64 = 0.5.
    boxes = torch.tensor([[0.0, 0, 8, 8], [0.0, 0, 8, 4], [100.0, 100, 108, 108], [100.0, 104, 108, 108]])
    return function_call("nms", boxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7, 0.6]), iou_threshold=0.5)


@case("hidden")
def nms_just_above(generator):
    """The same pairs with a threshold just below their overlap: the lower of each goes."""
    _, inputs = nms_threshold(generator)
    return "call", {**inputs, "arguments": {**inputs["arguments"], "iou_threshold": 0.49}}


@case("fresh")
def nms_large(generator):
    """Five thousand small boxes, of which about 3500 are kept: many rounds, and pairs by the million."""
    sides = uniform(generator, 5000, 2, low=20, high=60)
    corners = uniform(generator, 5000, 2) * (1000 - sides)
    boxes = torch.cat([corners, corners + sides], dim=1)
    return function_call("nms", boxes=boxes, scores=_distinct_scores(generator, 5000), iou_threshold=0.5)


# --- 4.2 inference


def _detections(generator, height, width, num_classes, count, clear=False, **thresholds):
    """Predictions in which `count` locations of each level score above the threshold and none comes near it.

    With `clear` all boxes stay inside the image. `thresholds` are those of `inference`: score, nms.
    """
    class_logits, deltas, ctr_logits = predictions_for(generator, height, width, num_classes)
    locations = locations_for(height, width)
    for level, coordinates in locations.items():
        total = len(coordinates)
        chosen = torch.randperm(total, generator=generator)[: min(count, total)]
        # Background: sqrt(sigmoid(-6) * sigmoid(0)) is at most 0.04.
        class_logits[level] = class_logits[level] * 0.3 - 6.5
        # Objects: their best class is far above the threshold, all others far below it.
        best = torch.randint(0, num_classes, (len(chosen),), generator=generator)
        class_logits[level][0, chosen, best] = uniform(generator, len(chosen), low=0.5, high=4)
        ctr_logits[level][0, chosen] = uniform(generator, len(chosen), 1, low=0.0, high=3)
        deltas[level] = uniform(generator, 1, total, 4, low=0.3, high=3.0)
        if clear:
            x, y = coordinates.unbind(1)
            room = torch.stack([x, y, width - 1 - x, height - 1 - y], dim=1) / STRIDES[level]
            deltas[level] = torch.minimum(deltas[level], 0.9 * room[None])
    return "inference", {
        "num_classes": num_classes,
        "images": torch.zeros(1, 3, height, width),
        "locations": locations,
        "predictions": [class_logits, deltas, ctr_logits],
        "thresholds": {f"test_{name}_thresh": value for name, value in thresholds.items()},
    }


@case("public")
def detections(generator):
    """A square image with some detections, all boxes inside."""
    return _detections(generator, 128, 128, 20, count=6, clear=True, score=0.3, nms=0.5)


@case("fresh")
def detections_clipped(generator):
    """An off-square image, wide, with boxes that reach over every side; nothing is suppressed."""
    return _detections(generator, 64, 192, 6, count=8, score=0.3, nms=1.0)


@case("fresh")
def detections_clipped_tall(generator):
    """An off-square image, tall, with boxes that reach over every side; nothing is suppressed."""
    return _detections(generator, 192, 64, 6, count=8, score=0.3, nms=1.0)


@case("fresh")
def detections_ranking(generator):
    """Centerness that changes the order and takes some below the threshold; rivals of the best class."""
    probe, inputs = _detections(generator, 96, 128, 5, count=10, clear=True, score=0.5, nms=0.7)
    class_logits, _, ctr_logits = inputs["predictions"]
    for level, logits in class_logits.items():
        objects = _objects(logits)
        # Two other classes just below the best, above the threshold: sqrt(sigmoid(0.5 - 0.3) * sigmoid(0)) = 0.52.
        best, order = logits[0, objects].max(dim=1, keepdim=True)
        rivals = (order + torch.tensor([1, 2])) % logits.shape[2]
        logits[0, objects[:, None], rivals] = best - uniform(generator, *rivals.shape, low=0.1, high=0.3)
        # sqrt(sigmoid(4) * sigmoid(-2)) = 0.34 falls below 0.5 although each class score alone is far above.
        ctr_logits[level][0, objects[::2]] = -2.0
    return probe, inputs


@case("fresh")
def detections_defaults(generator):
    """No threshold is given: 0.3 for the score and 0.5 for the overlap hold."""
    probe, inputs = _detections(generator, 96, 128, 2, count=12, clear=True)
    class_logits, _, ctr_logits = inputs["predictions"]
    for level, logits in class_logits.items():
        objects = _objects(logits)
        # Class scores are 0.62 to 0.98: sqrt(. * sigmoid(-1.5)) is 0.33 to 0.43, sqrt(. * sigmoid(-3)) at most 0.22.
        ctr_logits[level][0, objects[::3]] = -1.5
        ctr_logits[level][0, objects[1::3]] = -3.0
    return probe, inputs


def _objects(class_logits):
    """Indices of the locations that `_detections` has chosen."""
    return (class_logits[0].max(dim=1).values > 0).nonzero().flatten()


@case("fresh")
def detections_class_wise(generator):
    """Boxes that overlap almost fully: those of one class suppress each other, those of different classes do not."""
    probe, inputs = _detections(generator, 64, 96, 3, count=10, clear=True, score=0.3, nms=0.5)
    _, deltas, _ = inputs["predictions"]
    for level, locations in inputs["locations"].items():
        # Every location predicts nearly the same large box.
        jitter = uniform(generator, len(locations), 4, low=-2, high=2)
        box = torch.tensor([8.0, 6.0, 88.0, 58.0]) + jitter
        x, y = locations.unbind(1)
        sides = torch.stack([x - box[:, 0], y - box[:, 1], box[:, 2] - x, box[:, 3] - y], dim=1)
        deltas[level] = (sides / STRIDES[level])[None].clamp(min=0.0)
    return probe, inputs


@case("hidden")
def detections_none(generator):
    """No score reaches the threshold: three empty tensors."""
    return _detections(generator, 64, 96, 5, count=0, score=0.3, nms=0.5)
