"""What a detector found on a few held-out images, compared with the truth, ready to be drawn over them."""

from dataclasses import dataclass

import numpy as np

from helpers.evaluation import match_voc, overlapping_pairs

LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the image file.

    Attributes:
        kind: "right" or "wrong" for a detection, "missed" for an object that no detection found.
        label: name of the class, and the score of a detection.
    """

    x: float
    y: float
    width: float
    height: float
    kind: str
    label: str


@dataclass(frozen=True)
class Picture:
    """One image with one student's boxes.

    Attributes:
        index: of the image among those of the class.
        summary: what there is to see, in words.
    """

    index: int
    summary: str
    boxes: tuple[Box, ...]


def draw(images: list[dict], found: dict[str, list]) -> list[Picture]:
    """Compare a student's detections with the truth.

    Args:
        images: as `autograder.held_out.HeldOutImages.picture` gives them.
        found: id of an image -> its detections, surest first, as `autograder.measure.Measurement.pictures` has them.

    Returns:
        A picture for each image that the student's results have.
    """
    return [_picture(index, image, found[image["id"]]) for index, image in enumerate(images) if image["id"] in found]


def _picture(index: int, image: dict, found: list) -> Picture:
    names = sorted({row[4] for row in (*found, *image["truth"])})
    (boxes, classes), (objects, kinds) = _arrays(found, names), _arrays(image["truth"], names)
    difficult = np.array([row[5] for row in image["truth"]], bool)
    pairs = overlapping_pairs(boxes, classes, objects, kinds, LEAST_OVERLAP)
    match = match_voc(*pairs, num_detections=len(found), difficult=difficult)
    drawn = [
        _box(row, "wrong" if hit < 0 else "right", f"{row[4]} {row[5]:.0%}")
        for row, hit in zip(found, match.tolist(), strict=True)
    ]
    missed = [
        _box(row, "missed", row[4]) for n, row in enumerate(image["truth"]) if not difficult[n] and n not in match
    ]
    count, wrong = int((~difficult).sum()), sum(box.kind == "wrong" for box in drawn)
    summary = f"Image {image['id']}: {count - len(missed)} of {count} objects found, {len(missed)} missed"
    return Picture(index, f"{summary}, {wrong} wrong detections", (*missed, *reversed(drawn)))


def _arrays(rows: list, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.array([row[:4] for row in rows], float).reshape(-1, 4)
    return boxes, np.array([names.index(row[4]) for row in rows], int)


def _box(row: list, kind: str, label: str) -> Box:
    x1, y1, x2, y2 = row[:4]
    return Box(x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1), kind, label)
