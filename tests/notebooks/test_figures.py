"""Pictures of targets and misses: what they show is derived by hand from a few boxes."""

import numpy as np
import pytest
import torch

from helpers.misses import find_misses, miss_gallery
from helpers.plots import precision_recall_curves
from helpers.targets import ltrb_figure, matching_figure

NAMES = {0: "cat", 1: "dog"}
IMAGE = torch.zeros(3, 64, 64)
# p3 has 64 locations. One box of class 1 holds the four at (12, 12), (20, 12), (12, 20) and (20, 20).
BOX = torch.tensor([8.0, 8.0, 24.0, 24.0, 1.0])
GRID = (torch.arange(8) + 0.5) * 8
LOCATIONS = {"p3": torch.cartesian_prod(GRID, GRID).flip(1), "p4": torch.tensor([[8.0, 8.0], [24.0, 8.0]])}
INSIDE = ((LOCATIONS["p3"] > 8) & (LOCATIONS["p3"] < 24)).all(dim=1)
MATCHED = {"p3": torch.where(INSIDE[:, None], BOX, -1.0), "p4": torch.full((2, 5), -1.0)}


def titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.texts if text.get_text()]


def test_matching_figure_counts_positives_and_dots_boxes_without_any():
    padded = torch.stack([BOX, torch.full((5,), -1.0)])
    figure = matching_figure(IMAGE, LOCATIONS, MATCHED, padded, NAMES)
    assert titles(figure) == ["p3: 4 of 64 locations are positive", "p4: 0 of 2 locations are positive"]
    for axis, style in zip(figure.axes, ("-", ":")):
        assert labels(axis) == ["dog"]
        assert [patch.get_linestyle() for patch in axis.patches] == [style]
    # Grey points of all locations first, then those of the box.
    assert [len(points.get_offsets()) for points in figure.axes[0].collections] == [64, 4]


def test_ltrb_figure_draws_the_four_distances_of_one_location():
    # From (12, 20): 4 to the left, 12 to the top, 12 to the right, 4 to the bottom, at stride 8.
    deltas = {"p3": torch.full((64, 4), -1.0), "p4": torch.full((2, 4), -1.0)}
    chosen = (LOCATIONS["p3"] == torch.tensor([12.0, 20.0])).all(dim=1)
    deltas["p3"][chosen] = torch.tensor([0.5, 1.5, 1.5, 0.5])
    figure = ltrb_figure(IMAGE, LOCATIONS, deltas, {"p3": 8, "p4": 16})
    assert titles(figure) == ["p3, stride 8"]
    assert labels(figure.axes[0]) == ["l 0.5", "t 1.5", "r 1.5", "b 0.5"]
    box = figure.axes[0].patches[0]
    # Pixel k is drawn from k - 0.5 on.
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == pytest.approx((7.5, 7.5, 16, 16))


def test_ltrb_figure_without_positives_shows_the_image():
    figure = ltrb_figure(IMAGE, LOCATIONS, {"p3": torch.full((64, 4), -1.0)}, {"p3": 8})
    assert titles(figure) == ["p3, stride 8"]
    assert labels(figure.axes[0]) == []


TRUTH = (
    torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]),
    torch.tensor([0, 1, 1]),
    torch.tensor([False, False, True]),  # the last one is difficult
)
# prediction -> indices of missed objects, and of wrong detections from the surest on
CASES = {
    "nothing": ([], [0, 1], []),
    "everything": ([((0, 0, 10, 10), 0, 0.9), ((20, 20, 30, 30), 1, 0.8)], [], []),
    "wrong class": ([((0, 0, 10, 10), 1, 0.9)], [0, 1], [0]),
    "box too small": ([((0, 0, 10, 4), 0, 0.9)], [0, 1], [0]),  # IoU 0.4
    "twice": ([((0, 0, 10, 10), 0, 0.9), ((0, 0, 10, 9), 0, 0.8)], [1], []),
    "too unsure": ([((0, 0, 10, 10), 0, 0.1)], [0, 1], []),
    "difficult object found": ([((40, 40, 50, 50), 1, 0.9)], [0, 1], []),
    "wrong ones sorted": ([((50, 0, 60, 9), 0, 0.5), ((50, 0, 60, 9), 1, 0.7)], [0, 1], [1, 0]),
}


# Two objects beside each other, and one box over both.
TWO_AS_ONE = (
    torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10]]), torch.tensor([0, 0]), torch.tensor([False, False])
)  # fmt: skip


def test_one_detection_finds_one_object():
    misses = find_misses(prediction([((0, 0, 10, 10), 0, 0.9)]), TWO_AS_ONE)
    assert misses.missed.tolist() == [1]
    assert misses.wrong.tolist() == []


def prediction(rows) -> tuple:
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4)
    return boxes, torch.tensor([row[1] for row in rows]).long(), torch.tensor([row[2] for row in rows])


@pytest.mark.parametrize("case", CASES)
def test_find_misses(case):
    rows, missed, wrong = CASES[case]
    misses = find_misses(prediction(rows), TRUTH)
    assert misses.missed.tolist() == missed
    assert misses.wrong.tolist() == wrong
    assert len(misses) == len(missed) + len(wrong)


def test_gallery_shows_the_worst_image_first_and_leaves_out_those_without_a_mistake():
    rows = {0: CASES["everything"][0], 1: [], 2: CASES["twice"][0]}
    figure = miss_gallery(
        [IMAGE] * 3, {n: prediction(row) for n, row in rows.items()}, dict.fromkeys(rows, TRUTH), NAMES
    )
    assert titles(figure) == ["2 missed, 0 wrong", "1 missed, 0 wrong"]
    assert labels(figure.axes[0]) == ["cat", "dog"]


def test_gallery_puts_the_surest_mistake_first_and_knows_images_without_a_detection():
    rows = {0: [((70, 70, 90, 90), 0, 0.5)], 1: [((70, 70, 90, 90), 0, 0.9)]}
    truth = dict.fromkeys((0, 1, 2), TRUTH)
    figure = miss_gallery(
        [("a.jpg", IMAGE), ("b.jpg", IMAGE), ("c.jpg", IMAGE)], {n: prediction(row) for n, row in rows.items()}, truth, NAMES
    )
    assert titles(figure) == ["b: 2 missed, 1 wrong", "a: 2 missed, 1 wrong", "c: 2 missed, 0 wrong"]


def test_gallery_prefers_a_sure_mistake_to_a_crowd_and_labels_only_a_few():
    crowd = (torch.rand(30, 4).sort().values * 50, torch.zeros(30).long(), torch.zeros(30).bool())
    crowd[0][0] = torch.tensor([0.0, 0.0, 60.0, 60.0])
    rows = {0: [((0, 0, 60, 60), 0, 0.5)], 1: [((70, 70, 90, 90), 1, 0.9)]}
    figure = miss_gallery([IMAGE] * 2, {n: prediction(row) for n, row in rows.items()}, {0: crowd, 1: TRUTH}, NAMES)
    assert titles(figure) == ["2 missed, 1 wrong", "29 missed, 0 wrong"]
    assert len([text for text in labels(figure.axes[1]) if text]) == 4


def test_gallery_of_a_perfect_detector_says_so():
    figure = miss_gallery([IMAGE], {0: prediction(CASES["everything"][0])}, {0: TRUTH}, NAMES)
    assert "Nothing missed" in figure.axes[0].texts[0].get_text()


def test_gallery_takes_items_of_a_data_set_and_arrays():
    item = ("path.jpg", IMAGE, BOX[None])
    truth = tuple(np.asarray(part) for part in TRUTH)
    assert titles(miss_gallery([item], {0: prediction([])}, {0: truth}, NAMES)) == ["path: 2 missed, 0 wrong"]


def test_curve_of_one_object_found_at_once_fills_its_panel():
    # One detection, right: precision 1 at recall 1, so the area from recall 0 to 1 is the whole panel.
    figure = precision_recall_curves({"cat": ([1.0], [1.0], 1.0), "dog": ([], [], 0.0)})
    cat, dog = figure.axes
    assert cat.lines[0].get_xydata().tolist() == [[0, 1], [1, 1]]
    assert cat.collections[0].get_paths()[0].get_extents().bounds == (0, 0, 1, 1)
    assert len(dog.lines[0].get_xydata()) == 0
