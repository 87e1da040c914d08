"""What all pictures share: colours that everybody can tell apart, images as arrays, and boxes with labels.

Nothing here imports matplotlib before a picture is drawn, and figures are made without pyplot: no window opens, and
nothing is kept when the caller is done with them.
"""

from collections.abc import Mapping

import numpy as np
import torch

# Okabe and Ito's palette, made to be told apart with any kind of colour vision.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, BLACK = "#56B4E9", "#D55E00", "#F0E442", "#000000"
PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK, YELLOW)

# Truth is a solid line and a prediction a dashed one, so that a grey print still tells them apart.
TRUTH_STYLE = {"color": SKY, "linestyle": "-"}
PREDICTION_STYLE = {"color": ORANGE, "linestyle": (0, (4, 1.5))}


def new_figure(rows: int = 1, columns: int = 1, width: float = 6.0, height: float = 4.5, title: str = "", **options):
    """Make a figure with a grid of axes.

    Args:
        rows, columns: of the grid.
        width, height: of the whole figure, in inches.
        title: says what to see; above everything.
        options: for `Figure.subplots`.

    Returns:
        The figure, and its axes as an array (rows, columns).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure, axes


def as_picture(image) -> np.ndarray:
    """Make an image that can be shown of any that the kit has.

    Args:
        image: a tensor (3, H, W), an array (H, W, 3) or (3, H, W), or a PIL image. Whole numbers are taken as 0 to 255,
            fractions as 0 to 1, and fractions outside of that as normalised with ImageNet's mean and deviation.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the shape is not that of a colour image.
    """
    array = image.detach().cpu().float().numpy() if torch.is_tensor(image) and image.is_floating_point() else image
    array = np.asarray(array.cpu() if torch.is_tensor(array) else array)
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]):
        raise ValueError(f"an image has shape (3, H, W) or (H, W, 3), got {array.shape}")
    if torch.is_tensor(image) or array.shape[2] != 3:
        array = array.transpose(1, 2, 0)  # (H, W, 3)
    if np.issubdtype(array.dtype, np.floating):
        if array.min() < -1e-3 or array.max() > 1 + 1e-3:
            array = array * np.array([0.229, 0.224, 0.225]) + np.array([0.485, 0.456, 0.406])
        array = (array * 255).round()
    return array.clip(0, 255).astype(np.uint8)


def as_numpy(values, columns: int | None = None) -> np.ndarray:
    """An array of a tensor, an array or a list; `None` becomes an empty one.

    Args:
        values: any of these.
        columns: make it two-dimensional with at least these columns, also when it is empty.
    """
    array = np.asarray(values.detach().cpu() if torch.is_tensor(values) else ([] if values is None else values))
    if columns is not None and array.size == 0:
        array = array.reshape(0, columns)
    if columns is not None and (array.ndim != 2 or array.shape[1] < columns):
        raise ValueError(f"expected shape (N, {columns}) or wider, got {array.shape}")
    return array.astype(float) if columns is not None else array


def show_image(axes, image, title: str = "") -> None:
    """Show an image on an axes, without ticks.

    Args:
        axes: of matplotlib.
        image: anything that `as_picture` takes.
        title: above it.
    """
    axes.imshow(as_picture(image))
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


def draw_boxes(
    axes, boxes, style: Mapping, labels: list[str] | None = None, inside: bool = False, fontsize: float = 8
) -> None:
    """Draw boxes with labels on an axes that shows an image.

    Args:
        axes: of matplotlib.
        boxes: (N, 4), x1 y1 x2 y2 in pixels.
        style: colour and line style.
        labels: one text for each box; an empty one is not drawn.
        inside: put labels at the bottom inside the box, away from those that stand above it.
        fontsize: of the labels, in points.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    dark = np.dot(to_rgb(style["color"]), (0.3, 0.6, 0.1)) < 0.55
    # Pixel k of an image covers k to k + 1, and imshow puts its centre at k.
    for n, (x1, y1, x2, y2) in enumerate(as_numpy(boxes, 4)[:, :4] - 0.5):
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, linewidth=2 if labels else 1.5, **style))
        if not labels or not labels[n]:
            continue
        # A label that would leave the image at the top or on the right turns inwards.
        at_right = x1 > 0.8 * right
        at_top = y1 < 0.06 * bottom and not inside
        axes.annotate(
            labels[n],
            (min(x2, right) if at_right else max(x1, 0), min(y2, bottom) if inside else max(y1, 0)),
            xytext=(-1 if at_right else 1, -1 if at_top else 1),
            textcoords="offset points",
            ha="right" if at_right else "left",
            va="top" if at_top else "bottom",
            fontsize=fontsize,
            color="white" if dark else "black",
            bbox={"facecolor": style["color"], "edgecolor": "none", "pad": 1.2, "alpha": 0.9},
            clip_on=True,
        )
