"""Pictures of training targets: which location must predict which box, and what it must regress.

Every function takes plain tensors and returns a matplotlib figure.
"""

from collections.abc import Mapping

import numpy as np
import torch

from helpers.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SKY,
    YELLOW,
    as_numpy,
    as_picture,
    draw_boxes,
    new_figure,
    show_image,
)

# One colour for each box; on photographs all of them are told apart, also with colour-blind eyes.
BOX_COLORS = (ORANGE, SKY, PINK, YELLOW, GREEN, RED, BLUE)
DIRECTIONS = np.array([[-1, 0], [0, -1], [1, 0], [0, 1]])  # left, top, right, bottom, as (x, y)


def matching_figure(
    image, locations: Mapping, matched: Mapping, gt_boxes, idx_to_class: Mapping[int, str], title: str = ""
):
    """Show the positive locations of every level in the colour of the box that they must predict.

    Args:
        image: as in `detection_visualizer`.
        locations: level -> (L, 2), x and y in pixels.
        matched: level -> (L, 5), the box and class of each location, -1 for background.
        gt_boxes: (M, 5), all boxes of the image; rows of -1 are padding.
        idx_to_class: class index -> name.
        title: above all.

    Returns:
        A matplotlib figure with one panel for each level; a box without a location on that level is dotted.
    """
    picture = as_picture(image)
    matched = {level: torch.as_tensor(rows).detach().cpu() for level, rows in matched.items()}
    boxes = torch.as_tensor(gt_boxes).detach().cpu()
    boxes = boxes[boxes[:, 4] >= 0]
    title = title or "Coloured points must predict the box of their colour; grey points are background"
    height = 4.2 * picture.shape[0] / picture.shape[1] + 0.9
    figure, axes = new_figure(1, len(matched), 4.2 * len(matched), height, title)
    for axis, (level, target) in zip(axes.flat, matched.items()):
        points = torch.as_tensor(locations[level]).detach().cpu().numpy() - 0.5
        positive = int((target[:, 4] >= 0).sum())
        show_image(axis, picture, f"{level}: {positive} of {len(target)} locations are positive")
        axis.scatter(*points.T, s=5, color="0.75", edgecolors="black", linewidths=0.3)
        for n, box in enumerate(boxes):
            color = BOX_COLORS[n % len(BOX_COLORS)]
            mine = (target == box).all(dim=1).numpy()
            style = {"color": color, "linestyle": "-" if mine.any() else ":"}
            draw_boxes(axis, box[None, :4], style, [idx_to_class[int(box[4])]])
            axis.scatter(*points[mine].T, s=26, color=color, edgecolors="black", linewidths=0.7)
    return figure


def ltrb_figure(image, locations: Mapping, deltas: Mapping, strides: Mapping[str, int], title: str = ""):
    """Draw what some positive locations must regress: an arrow from the location to each side of its box.

    Args:
        image: as in `detection_visualizer`.
        locations: level -> (L, 2), x and y in pixels.
        deltas: level -> (L, 4), distances to left, top, right and bottom in strides, -1 for background.
        strides: level -> pixels.
        title: above it.

    Returns:
        A matplotlib figure with one panel for each level that has a positive location; one panel without arrows where
        there is none at all.
    """
    picture = as_picture(image)
    positive = {level: np.flatnonzero((delta >= 0).all(dim=1).cpu().numpy()) for level, delta in deltas.items()}
    levels = [level for level, chosen in positive.items() if len(chosen)] or list(deltas)[:1]
    title = title or "Each location regresses four distances, in strides: left, top, right, bottom"
    height = 4.2 * picture.shape[0] / picture.shape[1] + 0.9
    figure, axes = new_figure(1, len(levels), 4.2 * max(len(levels), 2), height, title)
    for axis, level in zip(axes.flat, levels):
        chosen = positive[level]
        show_image(axis, picture, f"{level}, stride {strides[level]}")
        # Neither at the middle, where the distances are equal, nor at the border, where an arrow has no room.
        room = deltas[level][chosen].amin(dim=1).argsort().cpu().numpy()
        for n in chosen[room][3 * len(chosen) // 4 :][:1]:
            point = as_numpy(locations[level], 2)[n] - 0.5  # (x, y) as imshow counts
            distances = as_numpy(deltas[level], 4)[n]  # in strides
            ends = point + strides[level] * distances[:, None] * DIRECTIONS  # (4, x and y)
            # The box is what the four arrows reach.
            draw_boxes(axis, [[*ends.min(axis=0) + 0.5, *ends.max(axis=0) + 0.5]], {"color": SKY, "linestyle": "-"})
            for name, value, end in zip("ltrb", distances, ends):
                axis.annotate("", end, point, arrowprops={"arrowstyle": "->", "color": ORANGE, "linewidth": 2})
                label = {"facecolor": ORANGE, "edgecolor": "none", "pad": 1.2, "alpha": 0.9}
                middle = (point + end) / 2
                axis.annotate(f"{name} {value:.1f}", middle, ha="center", va="center", fontsize=8, bbox=label)
            axis.scatter(*point, s=36, color=YELLOW, edgecolors="black", linewidths=0.8, zorder=3)
    return figure
