"""Which images a split has and what is in them, read from a VOCdevkit folder or from the course's JSON lists.

VOC counts pixels from 1 and means both corners to be inside the box: (1, 1, 500, 375) is a whole image of 500 x 375.
Here a box is a pair of points on the image plane, x1 <= x < x2, so the same box reads (0, 0, 500, 375). The course's
JSON lists hold VOC's numbers unchanged and are converted in the same way.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class AnnotationError(ValueError):
    """A list or an annotation does not say what it should; the message names the file."""


@dataclass(frozen=True)
class Annotation:
    """One image and its objects (G of them), in pixels of the image file."""

    path: Path
    width: int
    height: int
    boxes: np.ndarray  # (G, 4) float32, x1 y1 x2 y2 on the image plane
    classes: np.ndarray  # (G,) int64, 0 to 19
    difficult: np.ndarray  # (G,) bool

    @property
    def id(self) -> str:
        """Name of the image without its ending, such as "000012"."""
        return self.path.stem


def read_split(dataset_dir: str | Path, split: str) -> list[Annotation]:
    """Read the annotations of one split, in the order of its list.

    `voc07_{split}.json` in `dataset_dir` is the list when it exists. The course's lists leave difficult objects out;
    these are then taken from the XML file of the image where there is one, since evaluation must know them.

    Args:
        dataset_dir: folder that holds `VOCdevkit/`.
        split: name of a list in `ImageSets/Main`: "train", "val", "trainval", "test".

    Returns:
        One `Annotation` for each image.

    Raises:
        FileNotFoundError: no such list, or images or annotations of it are missing.
        AnnotationError: a file does not have the expected form.
    """
    dataset_dir = Path(dataset_dir)
    voc = dataset_dir / "VOCdevkit" / "VOC2007"
    course_list = dataset_dir / f"voc07_{split}.json"
    image_set = voc / "ImageSets" / "Main" / f"{split}.txt"
    if course_list.is_file():
        annotations = _read_course_list(course_list, dataset_dir)
    elif image_set.is_file():
        annotations = _read_image_set(image_set, voc)
    else:
        there = ", ".join(sorted(path.stem for path in image_set.parent.glob("*.txt") if "_" not in path.name))
        raise FileNotFoundError(
            f"no list of the {split!r} images: neither {course_list} nor {image_set} exists; there are: "
            f"{there or 'no lists at all'}. VOC2007 comes with download=True, or with `kit data voc2007` (--set "
            "test for its test images); helpers.make_sample, or `kit data sample`, draws some images"
        )
    if not annotations:
        raise AnnotationError(f"the list of the {split!r} images in {dataset_dir} is empty")
    return annotations


def _read_image_set(image_set: Path, voc: Path) -> list[Annotation]:
    # Some of VOC's lists have a second column (1, 0, -1: whether a class is there); the first is the image.
    ids = [line.split()[0] for line in image_set.read_text().splitlines() if line.strip()]
    for folder, ending in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        _check_presence(image_set, voc / folder, [f"{i}{ending}" for i in ids])
    return [read_xml(voc / "Annotations" / f"{i}.xml", voc / "JPEGImages" / f"{i}.jpg") for i in ids]


def _check_presence(source: Path, folder: Path, names: list[str]) -> None:
    """Look a whole list up with one listing of the folder: thousands of single questions are slow on a network disk."""
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    missing = [name for name in names if name not in present]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(names)} files that {source} lists are not in {folder}, first {missing[0]}"
        )


def read_xml(xml: Path, image: Path) -> Annotation:
    """Read one annotation of VOC's form.

    Args:
        xml: the annotation.
        image: the picture that it describes; not opened.

    Raises:
        AnnotationError: the file is not XML, lacks an element, names an unknown class, or says that the image is empty.
    """
    try:
        root = ElementTree.parse(xml).getroot()
        objects = root.findall("object")
        width, height = (int(root.findtext(f"size/{side}")) for side in ("width", "height"))
        if min(width, height) < 1:
            raise ValueError(f"an image of {width} x {height} pixels")
        return Annotation(
            path=image,
            width=width,
            height=height,
            **_objects(
                [
                    [float(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
                    for item in objects
                ],
                [item.findtext("name") for item in objects],
                [int(item.findtext("difficult", default="0")) for item in objects],
            ),
        )
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise AnnotationError(f"{xml} is not an annotation as VOC writes them: {error}") from error


def _read_course_list(course_list: Path, dataset_dir: Path) -> list[Annotation]:
    """Read `[["./here/VOCdevkit/VOC2007/JPEGImages/000012.jpg", [{"name": "car", "xyxy": [156, 97, 351, 270]}]]]`."""
    try:
        entries = json.loads(course_list.read_text())
        # "./here" stands for the folder of the list.
        images = [dataset_dir / "VOCdevkit" / name.replace("\\", "/").partition("VOCdevkit/")[2] for name, _ in entries]
        found = [
            _objects([item["xyxy"] for item in items], [item["name"] for item in items], [0] * len(items))
            for _, items in entries
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AnnotationError(f"{course_list} is not a list in the course's form: {error}") from error
    for folder in sorted({image.parent for image in images}):
        _check_presence(course_list, folder, [image.name for image in images if image.parent == folder])
    return [_with_difficult(image, objects) for image, objects in zip(images, found)]


def _with_difficult(image: Path, objects: dict) -> Annotation:
    """Add size and difficult objects to what a course list says of an image."""
    xml = image.parent.parent / "Annotations" / f"{image.stem}.xml"
    if not xml.is_file():
        with Image.open(image) as picture:
            width, height = picture.size
        return Annotation(image, width, height, **objects)
    full = read_xml(xml, image)
    merged = {
        "boxes": np.concatenate([objects["boxes"], full.boxes[full.difficult]]),
        "classes": np.concatenate([objects["classes"], full.classes[full.difficult]]),
        "difficult": np.concatenate([objects["difficult"], full.difficult[full.difficult]]),
    }
    return Annotation(image, full.width, full.height, **merged)


def _objects(corners: list[list[float]], names: list[str], difficult: list[int]) -> dict[str, np.ndarray]:
    """Turn what a file says of its objects into the arrays of an `Annotation`."""
    unknown = sorted(set(names) - set(VOC_CLASSES))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not one of the 20 classes of VOC")
    boxes = np.array(corners, dtype=np.float32).reshape(-1, 4)  # (G, 4)
    if not np.isfinite(boxes).all():
        raise ValueError("a box has a coordinate that is not a number")
    boxes[:, :2] -= 1  # from counted pixels to the image plane, see the head of this file
    return {
        "boxes": boxes,
        "classes": np.array([VOC_CLASSES.index(name) for name in names], dtype=np.int64),
        "difficult": np.array(difficult, dtype=bool),
    }
