"""Pictures of detections: what the ground truth says, what the detector says, and how it gets there.

Every function takes plain tensors or arrays and returns a matplotlib figure.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from helpers.drawing import (
    GREEN,
    PREDICTION_STYLE,
    RED,
    TRUTH_STYLE,
    YELLOW,
    as_numpy,
    as_picture,
    draw_boxes,
    new_figure,
    show_image,
)


def detection_visualizer(img, idx_to_class: Mapping[int, str], bbox=None, pred=None, points=None):
    """Show an image with its ground truth, its predictions, and points.

    Args:
        img: tensor (3, H, W), array (H, W, 3) or PIL image; values 0 to 255, 0 to 1, or normalised as for the backbone.
        idx_to_class: class index -> name.
        bbox: (M, 4) or (M, 5), x1 y1 x2 y2 in pixels and the class; rows of padding (class -1) are left out.
        pred: (N, 4), (N, 5) or (N, 6), x1 y1 x2 y2, class, score.
        points: (P, 2), x and y in pixels.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: a shape is not one of these.
    """
    picture = as_picture(img)
    figure, axes = new_figure(width=6, height=0.4 + 6 * picture.shape[0] / picture.shape[1])
    _draw_detections(axes[0, 0], picture, idx_to_class, bbox, pred)
    points = as_numpy(points, 2)
    axes[0, 0].scatter(points[:, 0] - 0.5, points[:, 1] - 0.5, s=24, color=RED, edgecolors="white", linewidths=0.7)
    if bbox is not None and pred is not None:
        _add_legend(figure)
    return figure


def detection_grid(
    images: Sequence,
    idx_to_class: Mapping[int, str],
    ground_truth: Sequence | None = None,
    predictions: Sequence | None = None,
    titles: Sequence[str] | None = None,
    columns: int = 4,
    title: str = "",
):
    """Show several images with ground truth and detections.

    Args:
        images: each as in `detection_visualizer`.
        idx_to_class: class index -> name.
        ground_truth: for each image (M, 5), or `None`.
        predictions: for each image (N, 6), or `None`.
        titles: one text for each image.
        columns: images in a row.
        title: above all.

    Returns:
        A matplotlib figure.
    """
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    figure, axes = new_figure(rows, columns, 3.1 * columns, 0.5 + 2.8 * rows, title or "Detections and ground truth")
    for ax in axes.flat:
        ax.set_axis_off()
    for n, (ax, image) in enumerate(zip(axes.flat, images)):
        truth = None if ground_truth is None else ground_truth[n]
        found = None if predictions is None else predictions[n]
        _draw_detections(ax, image, idx_to_class, truth, found, titles[n] if titles else "", fontsize=6.5)
    if ground_truth is not None and predictions is not None:
        _add_legend(figure)
    return figure


def location_grid(image, locations_per_fpn_level: Mapping[str, object], gt_boxes=None, title: str = ""):
    """Show where the locations of every pyramid level lie in the image.

    Args:
        image: as in `detection_visualizer`.
        locations_per_fpn_level: level -> (H * W, 2), x and y in pixels.
        gt_boxes: (M, 4) or wider; drawn on every level.
        title: above all.

    Returns:
        A matplotlib figure with one panel for each level.
    """
    picture = as_picture(image)
    count = len(locations_per_fpn_level)
    height = 4.2 * picture.shape[0] / picture.shape[1] + 0.9
    title = title or "Locations of each level: every point makes one prediction, coarse levels are for large objects"
    figure, axes = new_figure(1, count, 4.2 * count, height, title)
    for ax, (level, locations) in zip(axes.flat, locations_per_fpn_level.items()):
        locations = as_numpy(locations, 2)
        show_image(ax, picture, f"{level}: {len(locations)} locations")
        if gt_boxes is not None:
            draw_boxes(ax, _without_padding(gt_boxes), TRUTH_STYLE)
        size = np.clip(4000 / max(1, len(locations)), 4, 40)
        ax.scatter(*(locations.T - 0.5), s=size, color=YELLOW, edgecolors="black", linewidths=0.5)
    return figure


def centerness_map(image, box, locations, centerness, title: str = ""):
    """Show centerness as a heat map over one box.

    Args:
        image: as in `detection_visualizer`.
        box: (4,), x1 y1 x2 y2 in pixels.
        locations: (L, 2), x and y in pixels.
        centerness: (L,), 0 to 1; negative where a location is background.
        title: above it.

    Returns:
        A matplotlib figure.
    """
    picture = as_picture(image)
    locations, centerness = as_numpy(locations, 2), as_numpy(centerness).astype(float)
    figure, axes = new_figure(width=6.6, height=0.7 + 5.4 * picture.shape[0] / picture.shape[1])
    show_image(axes[0, 0], picture, title or "Centerness is 1 in the middle of the box and falls to 0 at its edges")
    # The locations of a level form a grid: each stands for the cell around it, and cells without a value stay clear.
    (xs, column), (ys, row) = (np.unique(locations[:, axis], return_inverse=True) for axis in (0, 1))
    cells = np.full((len(ys), len(xs)), np.nan)
    cells[row, column] = np.where(centerness >= 0, centerness, np.nan)
    half_x, half_y = (np.diff(steps).min() / 2 if len(steps) > 1 else 4.0 for steps in (xs, ys))
    heat = axes[0, 0].imshow(
        cells,
        extent=np.array([xs[0] - half_x, xs[-1] + half_x, ys[-1] + half_y, ys[0] - half_y]) - 0.5,
        cmap="cividis",
        vmin=0,
        vmax=1,
        alpha=0.7,
    )
    axes[0, 0].set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))
    draw_boxes(axes[0, 0], np.asarray(as_numpy(box), float)[None, :4], TRUTH_STYLE)
    figure.colorbar(heat, ax=axes[0, 0], label="centerness", shrink=0.8)
    return figure


def nms_before_after(image, boxes, scores, keep, title: str = ""):
    """Show boxes before and after non-maximum suppression, side by side.

    Args:
        image: as in `detection_visualizer`.
        boxes: (N, 4), x1 y1 x2 y2 in pixels.
        scores: (N,).
        keep: indices of the boxes that are left.
        title: above all.

    Returns:
        A matplotlib figure.
    """
    picture = as_picture(image)
    boxes, scores, keep = as_numpy(boxes, 4), as_numpy(scores), as_numpy(keep).astype(int)
    height = 5.2 * picture.shape[0] / picture.shape[1] + 0.9
    title = title or "Non-maximum suppression keeps the surest of the boxes that overlap"
    figure, axes = new_figure(1, 2, 10.4, height, title)
    for ax, name, chosen, color in (
        (axes[0, 0], "before", np.argsort(scores), RED),  # the surest on top
        (axes[0, 1], "after", keep, GREEN),
    ):
        show_image(ax, picture, f"{name}: {len(chosen)} {'box' if len(chosen) == 1 else 'boxes'}")
        labels = [f"{scores[n]:.2f}" for n in chosen] if len(chosen) <= 8 else None
        draw_boxes(ax, boxes[chosen], {"color": color, "linestyle": "-"}, labels)
    return figure


def _draw_detections(axes, image, idx_to_class, bbox, pred, title: str = "", fontsize: float = 8) -> None:
    show_image(axes, image, title)
    if bbox is not None:
        truth = _without_padding(bbox)
        names = [idx_to_class[int(c)] for c in truth[:, 4]] if truth.shape[1] > 4 else None
        draw_boxes(axes, truth, TRUTH_STYLE, names, fontsize=fontsize)
    if pred is not None:
        found = as_numpy(pred, 4)
        names = [idx_to_class[int(c)] for c in found[:, 4]] if found.shape[1] > 4 else None
        if names and found.shape[1] > 5:
            names = [f"{name} {score:.2f}" for name, score in zip(names, found[:, 5])]
        draw_boxes(axes, found, PREDICTION_STYLE, names, inside=bbox is not None, fontsize=fontsize)


def _without_padding(boxes) -> np.ndarray:
    """Leave out the rows of -1 that fill a target tensor up."""
    boxes = as_numpy(boxes, 4)
    return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


def _add_legend(figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linewidth=2.2, label=name, **style)
        for name, style in (("ground truth", TRUTH_STYLE), ("prediction", PREDICTION_STYLE))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
