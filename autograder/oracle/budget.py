"""Bounds what the reference computes for a submission: it runs in the grader's process, on whatever arguments arrive.

Every function that is answered has its rule here; a symbol without one (the networks, above all) is never answered.
"""

import inspect
import math

import torch

MAX_WORK = 1 << 22  # elements of the largest intermediate tensor, roughly; graded tests need some ten thousand
_MAX_SIDE = 4096  # cells of a feature map
_MAX_CLASSES = 1000


def check_work(symbol: str, function, args: list, kwargs: dict) -> None:
    """Require that a call is small.

    Args:
        symbol: "module.name".
        function: the reference's.
        args, kwargs: of the call, from the submission.

    Raises:
        LookupError: the symbol is not answered at all.
        TypeError, ValueError: the arguments are not what the function takes, or too much.
    """
    if symbol not in _WORK:
        raise LookupError(f"{symbol} is not answered")
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    _require_bounded(bound.arguments)
    if not _WORK[symbol](**bound.arguments) <= MAX_WORK:
        raise ValueError("too much to compute at once")


def _locations(shape_per_fpn_level, strides_per_fpn_level, dtype, device) -> int:
    for stride in strides_per_fpn_level.values():
        _require_number(stride, "a stride")
    sizes = [[int(size) for size in shape[-2:]] for shape in shape_per_fpn_level.values()]
    if not all(1 <= side <= _MAX_SIDE for size in sizes for side in size):
        raise ValueError(f"feature maps must have 1 to {_MAX_SIDE} rows and columns")
    return sum((height + 1) * (width + 1) for height, width in sizes)


def _suppression(boxes, scores, iou_threshold, class_ids=None) -> int:
    _require_number(iou_threshold, "iou_threshold")
    _require_tensor(boxes, "boxes")
    for values in (scores,) if class_ids is None else (scores, class_ids):
        _require_tensor(values, "scores and classes")
        if boxes.shape[1:] != (4,) or values.shape != boxes.shape[:1]:
            raise ValueError(f"boxes of shape {tuple(boxes.shape)}, scores or classes of {tuple(values.shape)}")
    return len(boxes) ** 2


def _matching(locations_per_fpn_level, strides_per_fpn_level, gt_boxes) -> int:
    _require_columns(gt_boxes, "gt_boxes", 4, 5)
    for stride in strides_per_fpn_level.values():
        _require_number(stride, "a stride")
    for locations in locations_per_fpn_level.values():
        _require_columns(locations, "locations", 2)
    return sum(locations.numel() for locations in locations_per_fpn_level.values()) * (gt_boxes.numel() + 1)


def _rows(first, second, stride) -> int:
    """Work of a function that goes row by row through two tensors."""
    _require_number(stride, "stride")
    _require_columns(first, "the first argument", 2, 4)
    _require_columns(second, "the second argument", 2, 4, 5)
    return 4 * torch.broadcast_shapes(first.shape[:-1], second.shape[:-1]).numel()


def _centerness(deltas) -> int:
    _require_columns(deltas, "deltas", 4)
    return deltas.numel()


def _losses(images, gt_boxes, predictions) -> int:
    _require_tensor(images, "images")
    _require_columns(gt_boxes, "gt_boxes", 5)
    classes, deltas, centerness = predictions
    for logits in classes.values():
        _require_columns(logits, "class logits", *range(1, _MAX_CLASSES + 1))
    for kind, columns in ((deltas, 4), (centerness, 1)):
        for value in kind.values():
            _require_columns(value, "a prediction", columns)
    values = [value for kind in predictions for value in kind.values()]
    return images.numel() + sum(value.numel() for value in values) + images.numel() // 64 * (gt_boxes.numel() + 1)


def _require_tensor(value, what: str) -> None:
    if not isinstance(value, torch.Tensor) or value.dim() == 0:
        raise TypeError(f"{what} must be a tensor with rows, not {type(value).__name__}")


def _require_columns(value, what: str, *counts: int) -> None:
    _require_tensor(value, what)
    if value.shape[-1] not in counts:
        raise ValueError(f"{what} cannot have {value.shape[-1]} columns")


def _require_bounded(value) -> None:
    """Require that no tensor in nested arguments is large in any direction: one without elements can have many rows."""
    if isinstance(value, torch.Tensor):
        if math.prod(max(size, 1) for size in value.shape) > MAX_WORK:
            raise ValueError("too much to compute at once")
    elif isinstance(value, dict):
        for inner in value.values():
            _require_bounded(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _require_bounded(inner)


def _require_number(value, what: str) -> None:
    if not isinstance(value, (int, float)) and not (isinstance(value, torch.Tensor) and value.numel() == 1):
        raise TypeError(f"{what} must be a number, not {type(value).__name__}")


_WORK = {
    "common.get_fpn_location_coords": _locations,
    "common.nms": _suppression,
    "common.class_spec_nms": _suppression,
    "one_stage_detector.fcos_match_locations_to_gt": _matching,
    "one_stage_detector.fcos_get_deltas_from_locations": lambda locations, gt_boxes, stride: _rows(
        locations, gt_boxes, stride
    ),
    "one_stage_detector.fcos_apply_deltas_to_locations": lambda deltas, locations, stride: _rows(
        deltas, locations, stride
    ),
    "one_stage_detector.fcos_make_centerness_targets": _centerness,
    "one_stage_detector.FCOS": _losses,
}
