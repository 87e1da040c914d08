"""Pictures: what is drawn, where, and that nothing opens a window."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from helpers.drawing import PREDICTION_STYLE, TRUTH_STYLE, as_picture
from helpers.plots import ap_bars, loss_curves, precision_recall_curves, smooth
from helpers.visualize import (
    centerness_map,
    detection_grid,
    detection_visualizer,
    location_grid,
    nms_before_after,
)

NAMES = {0: "cat", 1: "dog"}
GT = torch.tensor([[4.0, 6, 20, 30, 1], [-1, -1, -1, -1, -1]])
PRED = torch.tensor([[5.0, 7, 19, 28, 0, 0.875]])
GREY = torch.full((3, 40, 60), 0.5)

# One grey image in every form that is taken; 0.5 is 128 of 255. A normalised image is known by values outside 0 to 1,
# here those of a black pixel.
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
NORMALISED = (GREY - MEAN) / STD
NORMALISED[:, :1, :1] = -MEAN / STD
IMAGES = {
    "tensor 0 to 1": GREY,
    "tensor bytes": torch.full((3, 40, 60), 128, dtype=torch.uint8),
    "tensor normalised": NORMALISED,
    "array bytes": np.full((40, 60, 3), 128, np.uint8),
    "array 0 to 1": np.full((40, 60, 3), 0.5),
    "array channels first": np.full((3, 40, 60), 128, np.uint8),
    "PIL": Image.new("RGB", (60, 40), (128, 128, 128)),
    "tensor with gradient": GREY.clone().requires_grad_(),
}


def rectangles(axes) -> list[tuple]:
    """x, y, width, height of the boxes on an axes, in pixels of the image plane."""
    return [(p.get_x() + 0.5, p.get_y() + 0.5, p.get_width(), p.get_height()) for p in axes.patches]


@pytest.mark.parametrize("form", IMAGES)
def test_every_form_of_image_gives_the_same_picture(form):
    picture = as_picture(IMAGES[form])
    assert picture.shape == (40, 60, 3)
    assert picture.dtype == np.uint8
    assert (np.abs(picture[1:].astype(int) - 128) <= 1).all()


@pytest.mark.parametrize("shape", [(40, 60), (1, 40, 60), (2, 3, 40, 60)])
def test_picture_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        as_picture(np.zeros(shape))


def test_detection_visualizer_draws_truth_prediction_and_points():
    figure = detection_visualizer(GREY, NAMES, bbox=GT, pred=PRED, points=torch.tensor([[10.0, 12.0]]))
    (axes,) = figure.axes
    # The row of padding is left out.
    assert rectangles(axes) == [(4, 6, 16, 24), (5, 7, 14, 21)]
    assert [t.get_text() for t in axes.texts] == ["dog", "cat 0.88"]
    assert axes.collections[0].get_offsets().tolist() == [[9.5, 11.5]]
    assert [t.get_text() for t in figure.legends[0].texts] == ["ground truth", "prediction"]


# (argument, value, labels): the columns that old notebooks pass.
BOX_FORMS = [
    ("bbox", [[1, 2, 9, 9]], []),
    ("bbox", np.array([[1, 2, 9, 9, 0]]), ["cat"]),
    ("bbox", torch.full((3, 5), -1.0), []),
    ("pred", torch.zeros(0, 6), []),
    ("pred", [[1, 2, 9, 9]], []),
    ("pred", [[1, 2, 9, 9, 1]], ["dog"]),
    ("points", [(3, 4), (5, 6)], []),
]


@pytest.mark.parametrize(("argument", "value", "labels"), BOX_FORMS, ids=str)
def test_detection_visualizer_takes_every_number_of_columns(argument, value, labels):
    figure = detection_visualizer(GREY, NAMES, **{argument: value})
    assert [t.get_text() for t in figure.axes[0].texts] == labels
    assert figure.legends == []


def test_boxes_with_too_few_columns_are_refused():
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        detection_visualizer(GREY, NAMES, bbox=torch.zeros(2, 3))


def test_truth_and_prediction_differ_in_colour_and_in_line():
    assert TRUTH_STYLE["color"] != PREDICTION_STYLE["color"]
    assert TRUTH_STYLE["linestyle"] != PREDICTION_STYLE["linestyle"]


@pytest.mark.parametrize("box", [[0, 0, 50, 38], [55, 20, 60, 30]])
def test_labels_stay_inside_the_image(box):
    figure = detection_visualizer(GREY, NAMES, bbox=[[*box, 1]])
    figure.canvas.draw()
    axes = figure.axes[0]
    frame, label = axes.get_window_extent(), axes.texts[0].get_window_extent()
    assert frame.x0 <= label.x0
    assert label.x1 <= frame.x1
    assert label.y1 <= frame.y1


def test_detection_grid_has_one_panel_for_each_image():
    figure = detection_grid([GREY] * 5, NAMES, [GT] * 5, [PRED] * 5, titles=list("abcde"), columns=3)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "d", "e", ""]
    assert all(len(rectangles(axes)) == 2 for axes in figure.axes[:5])


def test_location_grid_shows_every_level():
    levels = {"p3": torch.tensor([[4.0, 4], [12, 4]]), "p4": torch.tensor([[8.0, 8]])}
    figure = location_grid(GREY, levels, gt_boxes=GT)
    assert [axes.get_title() for axes in figure.axes] == ["p3: 2 locations", "p4: 1 locations"]
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[3.5, 3.5], [11.5, 3.5]]


def test_centerness_map_puts_every_value_into_its_cell():
    # A grid of 3 x 2 cells of 8 pixels, given in any order; the location at (20, 12) is background.
    locations = torch.tensor([[12.0, 4], [4, 4], [20, 4], [4, 12], [20, 12], [12, 12]])
    values = torch.tensor([0.2, 0.1, 0.3, 0.4, -1.0, 0.5])
    figure = centerness_map(GREY, [4, 6, 20, 30], locations, values)
    heat = figure.axes[0].images[1]
    np.testing.assert_allclose(heat.get_array().filled(9), [[0.1, 0.2, 0.3], [0.4, 0.5, 9]], rtol=1e-6)
    assert np.add(heat.get_extent(), 0.5).tolist() == [0, 24, 16, 0]


def test_nms_before_after_shows_all_and_then_the_kept():
    boxes = torch.tensor([[1.0, 1, 9, 9], [2, 2, 10, 10], [20, 20, 30, 30]])
    figure = nms_before_after(GREY, boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0]))
    assert [axes.get_title() for axes in figure.axes] == ["before: 3 boxes", "after: 1 box"]
    assert rectangles(figure.axes[1]) == [(1, 1, 8, 8)]


def test_nms_before_after_works_without_any_box():
    figure = nms_before_after(GREY, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert figure.axes[0].get_title() == "before: 0 boxes"


def test_smooth_keeps_a_straight_line_straight_and_averages_noise():
    np.testing.assert_allclose(smooth(np.full(100, 3.0)), 3.0)
    # A window of 2 * (80 // 40) + 1 = 5 points, centred: the impulse of 5 at 40 becomes 1 on 38 to 42.
    impulse = np.zeros(80)
    impulse[40] = 5
    np.testing.assert_allclose(smooth(impulse)[36:45], [0, 0, 1, 1, 1, 1, 1, 0, 0], atol=1e-12)
    assert len(smooth(np.array([]))) == 0


def test_loss_curves_draws_every_loss_once_in_the_legend():
    figure = loss_curves({"loss_cls": [3, 2, 1], "loss": [6, 4, 2]}, iterations=[10, 20, 30])
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_legend().texts] == ["loss_cls", "loss"]
    assert axes.lines[0].get_xdata().tolist() == [10, 20, 30]


def test_ap_bars_are_sorted_and_say_when_a_class_has_no_object():
    figure = ap_bars({"cat": 0.25, "dog": None, "cow": 0.75}, compare={"cat": 0.5})
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["dog", "cat", "cow"]  # from the bottom
    assert [t.get_text() for t in axes.texts] == ["no object", "25.0", "75.0"]
    assert "50.0 %" in figure.get_suptitle()  # the mean of 25 and 75


def test_precision_recall_curves_have_one_panel_for_each_class():
    curves = {
        "cat": (np.array([0.5, 1.0]), np.array([1.0, 0.5]), 0.75),
        "dog": (np.array([]), np.array([]), float("nan")),
    }
    figure = precision_recall_curves(curves)
    assert [axes.get_title() for axes in figure.axes] == ["cat: 75.0 %", "dog: no object"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: detection_visualizer(GREY, NAMES, GT, PRED, [(1, 2)]),
        lambda: detection_grid([GREY], NAMES),
        lambda: loss_curves({"loss": [2.0, 1.0]}),
        lambda: ap_bars({"cat": 0.5}),
    ],
)
def test_figures_can_be_saved(make, tmp_path):
    figure = make()
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "picture.png")
    assert Image.open(tmp_path / "picture.png").size[0] > 100


def test_importing_the_pictures_does_not_import_matplotlib():
    code = "import sys, helpers.visualize, helpers.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
