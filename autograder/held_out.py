"""Images that students were not given the answers of, and the truth about them; workers get the pixels alone."""

import base64
import functools
import hashlib
import io
import json
from dataclasses import dataclass

import numpy as np

from autograder.errors import KitError
from helpers.annotations import VOC_CLASSES, Annotation, AnnotationError, read_split
from helpers.cache import decode, resized_shape

IMAGE_SIZE = 224  # pixels of the shorter side, as in the assignment
MOST_ELONGATED = 10  # longer side by shorter side; a longer image would not fit into a request with others
SHOWN = 4  # images that a class report shows
PICTURES = "held-out.json"  # beside a class's results: what `pictures_of` gives, once for all students


@dataclass(frozen=True)
class HeldOut:
    """Which images a class is measured on: plain values, that are sent to grader processes.

    Attributes:
        root: folder that holds VOCdevkit, absolute.
        split: name of a list of images, such as "val".
        images: how many of them, spread evenly over the list; all when it has fewer.
    """

    root: str
    split: str = "val"
    images: int = 300


class HeldOutImages:
    """The images of a `HeldOut`, numbered from 0. They are decoded when they are asked for.

    Args:
        annotations: of the images.
    """

    def __init__(self, annotations: list[Annotation]):
        self._annotations = annotations

    def __len__(self) -> int:
        return len(self._annotations)

    def id(self, n: int) -> str:
        """Return an image's name in its list."""
        return self._annotations[n].id

    def size(self, n: int) -> tuple[int, int]:
        """Return height and width of an image as detectors see it, without padding."""
        return resized_shape(self._annotations[n].width, self._annotations[n].height, IMAGE_SIZE)

    def pixels(self, n: int) -> np.ndarray:
        """Return an image as detectors see it, (3, h, w) uint8.

        Raises:
            KitError: it cannot be read.
        """
        try:
            return decode(self._annotations[n].path, self.size(n))
        except OSError as error:
            raise KitError(str(error)) from None

    def in_file(self, n: int, boxes: np.ndarray) -> np.ndarray:
        """Return boxes (N, 4) of the resized image in pixels of the file, clipped to it."""
        (height, width), one = self.size(n), self._annotations[n]
        scale = np.array([one.width / width, one.height / height] * 2)
        with np.errstate(over="ignore"):  # a detector may have answered with the largest number there is
            return (boxes * scale).clip(0, [one.width, one.height] * 2)

    @property
    def truth(self) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Number -> boxes (G, 4) in pixels of the file, classes (G,), difficult (G,)."""
        return {n: (self._clipped(n), one.classes, one.difficult) for n, one in enumerate(self._annotations)}

    def _clipped(self, n: int) -> np.ndarray:
        """Boxes of the objects of an image, clipped to it as detections are."""
        one = self._annotations[n]
        return one.boxes.clip(0, [one.width, one.height] * 2)

    def check(self, n: int) -> None:
        """Look whether an image can be used to measure on.

        Raises:
            KitError: it is damaged, or has another form than its annotation says; or a box has no area inside it.
        """
        self.pixels(n)
        boxes = self._clipped(n)
        lost = int(np.count_nonzero((boxes[:, :2] >= boxes[:, 2:]).any(axis=1)))
        if lost:
            raise KitError(
                f"held-out images: {lost} box{'es' * (lost > 1)} of {self._annotations[n].path} without area inside "
                "it, which nobody could find: correct its annotation"
            )

    def files(self, split: str) -> dict[str, bytes]:
        """Return these images and their truth as a folder of their own: path -> content.

        Raises:
            KitError: an image has no annotation in VOC's form beside it, or a file cannot be read.
        """
        voc, content = "VOCdevkit/VOC2007", {}
        for one in self._annotations:
            xml = one.path.parent.parent / "Annotations" / f"{one.id}.xml"
            try:
                content[f"{voc}/JPEGImages/{one.id}.jpg"] = one.path.read_bytes()
                content[f"{voc}/Annotations/{one.id}.xml"] = xml.read_bytes()
            except OSError as error:
                raise KitError(f"held-out images: {error}") from None
        names = "".join(f"{one.id}\n" for one in self._annotations)
        return content | {f"{voc}/ImageSets/Main/{split}.txt": names.encode()}

    @property
    def shown(self) -> range:
        """Numbers of the few images that a class report shows, the same for everybody."""
        return range(0, len(self), max(1, len(self) // SHOWN))[:SHOWN]

    def picture(self, n: int) -> dict:
        """Return one image and its truth for a report: {"id", "width", "height", "jpeg" (base64, small), "truth"}.

        The truth is [x1, y1, x2, y2, class name, whether it is difficult] of each object, in pixels of the file.
        """
        from PIL import Image

        one, buffer = self._annotations[n], io.BytesIO()
        Image.fromarray(self.pixels(n).transpose(1, 2, 0)).save(buffer, "JPEG", quality=75)
        rows = zip(one.boxes.tolist(), one.classes.tolist(), one.difficult.tolist(), strict=True)
        return {
            "id": one.id,
            "width": one.width,
            "height": one.height,
            "jpeg": base64.b64encode(buffer.getvalue()).decode(),
            "truth": [[*box, VOC_CLASSES[kind], difficult] for box, kind, difficult in rows],
        }

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of images and truth: results that were measured on others cannot be compared."""
        digest = hashlib.sha256()
        for one in self._annotations:
            arrays = (one.boxes, one.classes, one.difficult)
            digest.update(json.dumps([one.id, one.width, one.height, *(array.tolist() for array in arrays)]).encode())
            digest.update(hashlib.sha256(one.path.read_bytes()).digest())
        return digest.hexdigest()


@functools.lru_cache(maxsize=1)  # a grader process measures a whole class on the same images
def load_held_out(held_out: HeldOut) -> HeldOutImages:
    """Read the list and the truth of held-out images.

    Raises:
        KitError: they are not there, not in VOC's form, or no object is in them that could be found.
    """
    try:
        annotations = read_split(held_out.root, held_out.split)
    except (OSError, AnnotationError) as error:
        raise KitError(f"held-out images: {error}") from None
    count = min(held_out.images, len(annotations))
    chosen = [annotations[i * len(annotations) // count] for i in range(count)]
    if all(one.difficult.all() for one in chosen):
        raise KitError(f"held-out images: in {count} of {held_out.split!r} in {held_out.root} is no object to be found")
    for one in chosen:
        if max(one.width, one.height) > MOST_ELONGATED * min(one.width, one.height):
            raise KitError(f"held-out images: {one.path} is more than {MOST_ELONGATED} times as long as wide")
    return HeldOutImages(chosen)


def pictures_of(held_out: HeldOut) -> dict:
    """Return the few images that a class report shows, with their truth; for the course staff alone."""
    images = load_held_out(held_out)
    return {"sha256": images.digest, "pictures": [images.picture(n) for n in images.shown]}


def described(held_out: HeldOut) -> dict:
    """Return what a result says of the images that it was measured on, without the place where they lie."""
    images = load_held_out(held_out)
    return {"split": held_out.split, "images": len(images), "sha256": images.digest}
