"""What the reference computes for a submission is bounded, and nothing but the listed functions is computed."""

import pytest
import torch

from autograder.oracle import Upstream
from autograder.oracle.budget import _WORK
from autograder.tasks import load_tasks

ALL = (*_WORK, "one_stage_detector.FCOS", "common.DetectorBackboneWithFPN", "common.load_backbone")
STRIDES = {"p3": 8}

# Calls that a submission may make; each is what a graded test leads to.
ANSWERED = {
    "locations": ("common.get_fpn_location_coords", [{"p3": (1, 4, 2, 3)}, STRIDES]),
    "nms": ("common.nms", [torch.rand(40, 4), torch.rand(40), 0.5]),
    "nms of nothing": ("common.nms", [torch.zeros(0, 4), torch.zeros(0)]),
    "class-wise nms": ("common.class_spec_nms", [torch.rand(40, 4), torch.rand(40), torch.zeros(40)]),
    "matching": (
        "one_stage_detector.fcos_match_locations_to_gt",
        [{"p3": torch.rand(336, 2)}, STRIDES, torch.rand(12, 5)],
    ),
    "matching of a batch": (
        "one_stage_detector.fcos_match_locations_to_gt",
        [{"p3": torch.rand(336, 2)}, STRIDES, torch.rand(3, 12, 5)],
    ),
    "deltas": ("one_stage_detector.fcos_get_deltas_from_locations", [torch.rand(945, 2), torch.rand(945, 5), 8]),
    "deltas of a batch": (
        "one_stage_detector.fcos_get_deltas_from_locations",
        [torch.rand(315, 2), torch.rand(3, 315, 5), 8],
    ),
    "apply": ("one_stage_detector.fcos_apply_deltas_to_locations", [torch.rand(9, 4), torch.rand(9, 2), 8]),
    "centerness": ("one_stage_detector.fcos_make_centerness_targets", [torch.rand(945, 4)]),
}
# Calls whose answer would take gigabytes, minutes, or something that is not ours to give.
REFUSED = {
    "a map of a million rows": ("common.get_fpn_location_coords", [{"p3": (1, 1, 10**6, 10**6)}, STRIDES]),
    "a map without columns": ("common.get_fpn_location_coords", [{"p3": (1, 1, 10**12, 0)}, STRIDES]),
    "four thousand maps": ("common.get_fpn_location_coords", [{str(i): (1, 1, 99, 99) for i in range(4000)}, STRIDES]),
    "a stride that is a tensor": (
        "common.get_fpn_location_coords",
        [{"p3": (1, 1, 9, 9)}, {"p3": torch.rand(10**6, 1)}],
    ),
    "a million boxes": ("common.nms", [torch.rand(10**6, 4), torch.rand(10**6), 1.0]),
    "more scores than boxes": ("common.nms", [torch.rand(3, 4), torch.rand(10**6), 1.0]),
    "thresholds": ("common.nms", [torch.rand(9, 4), torch.rand(9), torch.rand(10**6, 1)]),
    "classes of two dimensions": (
        "common.class_spec_nms",
        [torch.rand(9, 4), torch.rand(9), torch.rand(9, 10**5)],
    ),
    "locations times boxes": (
        "one_stage_detector.fcos_match_locations_to_gt",
        [{"p3": torch.rand(10**5, 2)}, STRIDES, torch.rand(10**5, 5)],
    ),
    "rows times rows": (
        "one_stage_detector.fcos_get_deltas_from_locations",
        [torch.rand(10**5, 1, 2), torch.rand(1, 10**5, 4), 8],
    ),
    "strides": (
        "one_stage_detector.fcos_apply_deltas_to_locations",
        [torch.rand(9, 4), torch.rand(9, 2), torch.rand(10**6, 1, 1)],
    ),
    "ten million rows": ("one_stage_detector.fcos_make_centerness_targets", [torch.rand(10**7, 4)]),
    # Without elements they cost nothing to send, and their rows are made all the same.
    "rows without columns": ("one_stage_detector.fcos_make_centerness_targets", [torch.rand(10**7, 0)]),
    "columns without rows": ("one_stage_detector.fcos_make_centerness_targets", [torch.rand(0, 10**7)]),
    "boxes without columns": (
        "one_stage_detector.fcos_match_locations_to_gt",
        [{"p3": torch.rand(9, 2)}, STRIDES, torch.rand(10**8, 0)],
    ),
    "boxes of images that are not there": (
        "one_stage_detector.fcos_match_locations_to_gt",
        [{"p3": torch.rand(9, 2)}, STRIDES, torch.rand(10**8, 0, 5)],
    ),
    "locations of many columns": (
        "one_stage_detector.fcos_get_deltas_from_locations",
        [torch.rand(0, 10**6), torch.rand(0, 4), 8],
    ),
    "a map of a negative size": ("common.get_fpn_location_coords", [{"p3": (1, 1, -1, 10**9)}, STRIDES]),
    "a number": ("one_stage_detector.fcos_make_centerness_targets", [3]),
    "a network": ("one_stage_detector.FCOS", [20, 10**6, [10**6]]),
    "a backbone": ("common.DetectorBackboneWithFPN", [10**6]),
    "a file of the grader": ("common.load_backbone", ["resnet18", "/etc/passwd"]),
    "too many arguments": ("common.nms", [1, 2, 3, 4, 5]),
}


@pytest.fixture(scope="module")
def upstream():
    return Upstream()


@pytest.mark.parametrize(("symbol", "args"), ANSWERED.values(), ids=ANSWERED)
def test_ordinary_call_is_answered(upstream, symbol, args):
    assert upstream(ALL)(symbol, args, {}) is not None


@pytest.mark.parametrize(("symbol", "args"), REFUSED.values(), ids=REFUSED)
def test_other_call_is_refused(upstream, symbol, args):
    with pytest.raises((LookupError, TypeError, ValueError)):
        upstream(ALL)(symbol, args, {})


@pytest.mark.parametrize("symbol", _WORK)
def test_function_is_not_answered_while_it_is_graded(upstream, symbol):
    table = load_tasks()
    owners = [task for task in table.tasks if symbol in task.symbols]
    for task in owners or [table["4.1"]]:  # class_spec_nms is no task, and is built on the one of 4.1
        with pytest.raises(LookupError, match="is not answered while this task is graded"):
            upstream(table.symbols_outside(task))(symbol, [], {})


def test_every_function_of_a_task_has_a_rule():
    functions = {symbol for task in load_tasks().tasks for symbol in task.symbols if symbol.split(".")[1][0].islower()}
    assert functions <= set(_WORK)


def test_losses_are_computed_for_plausible_predictions_only(upstream):
    images, boxes = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 5)

    def predictions(classes=20, batch=2):
        sizes = {"p3": 64, "p4": 16, "p5": 4}
        columns = (classes, 4, 1)
        return [{level: torch.zeros(batch, size, count) for level, size in sizes.items()} for count in columns]

    answer = upstream(ALL, training=True)
    symbol = "one_stage_detector.FCOS"
    arguments = {"images": images, "gt_boxes": boxes}
    assert len(answer(symbol, [], {**arguments, "predictions": predictions()})["losses"]) == 3
    for wrong in (predictions(classes=2 * 10**6, batch=0), predictions()[:2], [{}, {}, {}]):
        with pytest.raises((KeyError, TypeError, ValueError)):
            upstream(ALL, training=True)(symbol, [], {**arguments, "predictions": wrong})
