"""PASCAL VOC 2007 as the assignment uses it: small images, boxes as tensors, the same for the generated sample.

Letters: B images, H, W rows and columns, M rows of ground truth (padding included), G objects of one image.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import Dataset, get_worker_info

from helpers.annotations import VOC_CLASSES, Annotation, read_split
from helpers.augment import Augmentation
from helpers.cache import build_cache, decode, resized_shape

# Mean and deviation of ImageNet's RGB values, which pretrained backbones expect, on the scale 0 to 255.
IMAGENET_MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
IMAGENET_STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
LARGEST_STRIDE = 32  # of p5: the sides of a batch are multiples of it, so that the maps of the FPN fit on each other
MIN_SIDE = 1.0  # pixels; what cropping leaves of an object must be at least as wide and as high


class VOC2007DetectionTiny(Dataset):
    """VOC2007 with the shorter side of every image resized to `image_size`.

    "train" and "trainval" are cropped to squares, so that they stack into batches. Other splits keep the whole image,
    padded to the right and at the bottom to multiples of 32 (use `collate` to make batches of them). Difficult objects
    are no training targets; evaluation gets them from `ground_truth`.

    An item is `(path, image, gt_boxes)`:
        path: str, the image file.
        image: (3, H, W) float32, normalised with ImageNet's mean and deviation; padding is 0, the mean colour.
        gt_boxes: (M, 5) float32, x1 y1 x2 y2 in pixels of `image` and the class, 0 to 19. M is the same for all
            images of the split; rows that are not needed are all -1.

    Args:
        dataset_dir: folder that holds `VOCdevkit/`, and `voc07_{split}.json` where the course's lists are used.
        split: "train", "val", "trainval" or "test".
        download: fetch VOC2007 into `dataset_dir` when it is not there.
        image_size: pixels of the shorter side.
        crop: crop to a square, or keep whole images; `None` crops "train" and "trainval".
        hflip: probability of mirroring an image.
        scale_jitter: smallest and largest factor on the size, such as (0.7, 1.4), drawn before a random crop.
        random_crop: crop anywhere, not at the centre; scale jitter implies it.
        color_jitter: strength of random brightness, contrast and saturation, 0 to 1, such as 0.3.
        cache: keep images decoded and resized: "memory", or a folder on a local disk for a memory-mapped file that
            loader processes share; `None` decodes them each time.

    Raises:
        FileNotFoundError, AnnotationError: the data are not there or not in VOC's form; see `read_split`.
        ValueError: an option has no meaning.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        split: str = "train",
        download: bool = False,
        image_size: int = 224,
        *,
        crop: bool | None = None,
        hflip: float = 0.0,
        scale_jitter: tuple[float, float] | None = None,
        random_crop: bool = False,
        color_jitter: float = 0.0,
        cache: str | Path | None = None,
    ):
        if image_size < LARGEST_STRIDE:
            raise ValueError(f"image_size must be at least {LARGEST_STRIDE} pixels, not {image_size}")
        if download:
            from helpers.download import download_voc2007

            download_voc2007(dataset_dir, which="test" if split == "test" else "trainval")
        self.split = split
        self.image_size = image_size
        self.crop = split in ("train", "trainval") if crop is None else crop
        if (random_crop or scale_jitter) and not self.crop:
            raise ValueError("random_crop and scale_jitter need crop=True")
        self.class_to_idx = {name: index for index, name in enumerate(VOC_CLASSES)}
        self.idx_to_class = dict(enumerate(VOC_CLASSES))
        self._augment = Augmentation.create(image_size, hflip, scale_jitter, random_crop, color_jitter)

        self.annotations: list[Annotation] = read_split(dataset_dir, split)
        self.max_boxes = max(1, *(np.count_nonzero(~a.difficult) for a in self.annotations))
        self._warn_of_boxes_without_area()
        self._shapes = [resized_shape(a.width, a.height, image_size) for a in self.annotations]
        self._objects = [self._visible_objects(i) for i in range(len(self))]
        # Objects shown and lost by random crops; a row for each loader process, so that none writes into another's.
        self._random_crops = torch.zeros(64, 2, dtype=torch.int64).share_memory_()

        paths = [a.path for a in self.annotations]
        self._cache = None if cache is None else build_cache(cache, f"{split}-{image_size}", paths, self._shapes)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor, torch.Tensor]:
        path = self.annotations[index].path
        pixels = decode(path, self._shapes[index]) if self._cache is None else self._cache[index]  # (3, h, w) uint8
        view = self._plain_view if self._augment is None else self._random_view
        image, boxes, classes = view(index, pixels)
        gt_boxes = torch.cat([boxes, classes.to(boxes).unsqueeze(1)], dim=1)  # (G, 5)
        padded = pad(gt_boxes, (0, 0, 0, self.max_boxes - len(gt_boxes)), value=-1.0)  # (M, 5)
        return str(path), normalize(image, 1 if self.crop else LARGEST_STRIDE), padded

    @property
    def crops_at_random(self) -> bool:
        """Whether every item is another view, so that what a centre crop leaves out may be seen."""
        return self._augment is not None and self._augment.crops

    def ground_truth(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All objects of an image, for evaluation.

        Args:
            index: which image.

        Returns:
            boxes (G, 4) in pixels of the image tensor as it is without augmentation, classes (G,) int64, and difficult
            (G,) bool. Objects that a centre crop leaves out are not there.
        """
        return self._objects[index]

    def image_id(self, index: int) -> str:
        """Name of an image in VOC's lists, such as "000012"."""
        return self.annotations[index].id

    def content_size(self, index: int) -> tuple[int, int]:
        """Height and width of an image tensor without its padding, as it is without augmentation."""
        return (self.image_size, self.image_size) if self.crop else self._shapes[index]

    def file_scale(self, index: int) -> torch.Tensor:
        """Factors (4,) from pixels of the image tensor to those of the image file, for boxes of `ground_truth`.

        Where images are cropped, sizes become those in the file, and places count from the corner of the crop.
        """
        a, (height, width) = self.annotations[index], self._shapes[index]
        return torch.tensor([a.width / width, a.height / height] * 2, dtype=torch.float64)

    def summary(self, indices: Iterable[int] | None = None) -> dict[str, int]:
        """Count what is there and what cropping has taken away.

        Args:
            indices: of the images to count; `None` counts all. Random crops are counted for all that were loaded.

        Returns:
            images; objects (the targets) and difficult ones in the files; lost_objects and lost_difficult, which the
            centre crop leaves out or thinner than a pixel; random_crop_shown and random_crop_lost, counted while items
            are loaded.
        """
        indices = range(len(self)) if indices is None else list(indices)
        flags, flags_left = ([self.annotations[i].difficult for i in indices], [self._objects[i][2] for i in indices])
        difficult, difficult_left = (sum(int(d.sum()) for d in one) for one in (flags, flags_left))
        objects, objects_left = sum(map(len, flags)) - difficult, sum(map(len, flags_left)) - difficult_left
        shown, lost = self._random_crops.sum(dim=0).tolist()
        return {
            "images": len(indices),
            "objects": objects,
            "difficult": difficult,
            "lost_objects": objects - objects_left,
            "lost_difficult": difficult - difficult_left,
            "random_crop_shown": shown,
            "random_crop_lost": lost,
        }

    def _warn_of_boxes_without_area(self) -> None:
        """Say which boxes of the files lie outside of their image or have their corners the wrong way round."""
        bad = []
        for a in self.annotations:
            _, kept = clip_boxes(torch.from_numpy(a.boxes), (a.height, a.width), min_side=0.0)
            bad += [a.id] * int((~kept).sum())
        if bad:
            warnings.warn(
                f"{len(bad)} boxes of the {self.split!r} images have no area inside their image and are left out, the "
                f"first in {bad[0]}: look at its annotation",
                stacklevel=3,
            )

    def _resized_boxes(self, index: int) -> torch.Tensor:
        """Boxes (G, 4) in the resized, not yet cropped image."""
        a, (height, width) = self.annotations[index], self._shapes[index]
        scale = torch.tensor([width / a.width, height / a.height] * 2, dtype=torch.float32)
        return torch.from_numpy(a.boxes) * scale

    def _corner(self, index: int) -> tuple[int, int]:
        """Top and left of the centre crop in the resized image."""
        height, width = self._shapes[index]
        return ((height - self.image_size) // 2, (width - self.image_size) // 2) if self.crop else (0, 0)

    def _visible_objects(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes, classes and difficult flags of what is inside the view without augmentation."""
        a = self.annotations[index]
        top, left = self._corner(index)
        boxes = self._resized_boxes(index) - torch.tensor([left, top, left, top])
        boxes, kept = clip_boxes(boxes, self.content_size(index), MIN_SIDE if self.crop else 0.0)
        return boxes[kept], torch.from_numpy(a.classes)[kept], torch.from_numpy(a.difficult)[kept]

    def _plain_view(self, index: int, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The image without augmentation, uint8, with its targets."""
        boxes, classes, difficult = self._objects[index]
        (top, left), (height, width) = self._corner(index), self.content_size(index)
        image = torch.from_numpy(pixels[:, top : top + height, left : left + width].copy())  # (3, H, W)
        return image, boxes[~difficult], classes[~difficult]

    def _random_view(self, index: int, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The image with augmentation, uint8, with the targets that are left."""
        if not self._augment.crops:
            image, boxes, classes = self._plain_view(index, pixels)
            return *self._augment(image, boxes), classes
        a = self.annotations[index]
        targets = torch.from_numpy(~a.difficult)
        image, boxes = self._augment(torch.from_numpy(pixels.copy()), self._resized_boxes(index)[targets])
        boxes, kept = clip_boxes(boxes, (self.image_size, self.image_size), MIN_SIDE)
        worker = get_worker_info()
        row = 0 if worker is None else 1 + worker.id % (len(self._random_crops) - 1)
        self._random_crops[row] += torch.tensor([len(kept), len(kept) - int(kept.sum())])
        return image, boxes[kept], torch.from_numpy(a.classes)[targets][kept]


def clip_boxes(boxes: torch.Tensor, size: tuple[int, int], min_side: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Clip boxes (G, 4) to an image of `size` (height, width).

    Returns:
        The clipped boxes (G, 4), and (G,) bool: which still have an area and sides of at least `min_side` pixels.
    """
    height, width = size
    corners = np.clip(boxes.double().numpy().reshape(-1, 2, 2), 0, (width, height))  # (G, 2 corners, x and y)
    sides = np.diff(corners, axis=1)[:, 0]  # (G, 2)
    kept = (sides > 0).all(axis=1) & (sides >= min_side).all(axis=1)
    return torch.from_numpy(corners.reshape(-1, 4)).to(boxes.dtype), torch.from_numpy(kept)


def normalize(image: torch.Tensor, multiple: int = 1) -> torch.Tensor:
    """Scale an image as pretrained backbones expect it, and pad its sides.

    Args:
        image: (3, h, w) uint8.
        multiple: pad to the right and at the bottom, so that both sides become multiples of this.

    Returns:
        (3, H, W) float32; padding is 0.
    """
    _, height, width = image.shape
    scaled = image.float().sub_(IMAGENET_MEAN).div_(IMAGENET_STD)
    return pad(scaled, (0, -width % multiple, 0, -height % multiple)) if multiple > 1 else scaled


def collate(batch: list[tuple[str, torch.Tensor, torch.Tensor]]) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Make a batch of items with unequal sizes (`collate_fn=` of a `DataLoader`).

    Args:
        batch: B items of `VOC2007DetectionTiny`.

    Returns:
        paths (B of them), images (B, 3, H, W) padded with 0 to the right and at the bottom, and gt_boxes (B, M, 5)
        padded with -1; H, W and M are the largest of the batch.
    """
    paths, images, targets = zip(*batch)
    return list(paths), _stack(images, 0.0), _stack(targets, -1.0)


def _stack(tensors: tuple[torch.Tensor, ...], value: float) -> torch.Tensor:
    """Stack tensors of unequal shapes, filled up at their ends with `value`."""
    shapes = {t.shape for t in tensors}
    if len(shapes) == 1:
        return torch.stack(tensors)
    stacked = tensors[0].new_full((len(tensors), *(max(sides) for sides in zip(*shapes))), value)
    for place, t in zip(stacked, tensors):
        place[tuple(slice(side) for side in t.shape)] = t
    return stacked
