"""Decoded, resized images kept as bytes, so that an epoch neither decodes nor resizes.

All images lie one after the other in one array of bytes, each with channels first (3, h, w). The array is in memory, or
memory-mapped from a file on a local disk; several loader processes then share one copy.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from helpers.leftovers import remove_leftovers

CACHE_VERSION = 1  # goes up when the bytes change, so that old caches are built anew


def resized_shape(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Height and width after resizing so that the shorter side has `shorter_side` pixels."""
    scale = shorter_side / min(width, height)
    return (shorter_side, round(width * scale)) if height <= width else (round(height * scale), shorter_side)


def decode(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read an image file and resize it.

    Args:
        path: any file that Pillow reads.
        shape: height and width of the result.

    Returns:
        (3, h, w) uint8, RGB.

    Raises:
        OSError: the file is missing, damaged, or of another form than `shape`; the message names it.
    """
    try:
        with Image.open(path) as image:
            _check_form(image, shape)
            # reducing_gap: a large image is first reduced by a whole number, which is faster and looks the same
            image = image.convert("RGB").resize(shape[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
    except OSError as error:
        raise OSError(f"the image {path} cannot be read: {error}") from error
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _check_form(image: Image.Image, shape: tuple[int, int]) -> None:
    """Refuse to stretch an image whose annotation says another size: its boxes would lie elsewhere."""
    own = resized_shape(image.width, image.height, min(shape))
    if any(abs(side - other) > 1 + 0.01 * other for side, other in zip(own, shape)):
        raise OSError(
            f"it has {image.width} x {image.height} pixels, and its annotation gives it the form of "
            f"{shape[1]} x {shape[0]}"
        )


class ImageCache:
    """Images by index, from one array of bytes.

    Args:
        pixels: all images, flat, uint8.
        shapes: (n, 2) height and width of each.
    """

    def __init__(self, pixels: np.ndarray, shapes: np.ndarray):
        self.pixels = pixels
        self.shapes = shapes
        self.starts = np.concatenate([[0], np.cumsum(3 * shapes.prod(axis=1))])  # (n + 1,)

    def __getstate__(self) -> dict:
        # A loader process that starts afresh maps the file again; NumPy by itself would send it a copy of all pixels.
        mapped = isinstance(self.pixels, np.memmap)
        return {"pixels": str(self.pixels.filename) if mapped else self.pixels, "shapes": self.shapes}

    def __setstate__(self, state: dict) -> None:
        pixels = state["pixels"]
        mapped = isinstance(pixels, str)
        self.__init__(np.memmap(pixels, np.uint8, mode="r") if mapped else pixels, state["shapes"])

    def __getitem__(self, index: int) -> np.ndarray:
        index = range(len(self))[index]  # from the end, or none, as of a list
        h, w = self.shapes[index]
        return self.pixels[self.starts[index] : self.starts[index + 1]].reshape(3, h, w)

    def __len__(self) -> int:
        return len(self.shapes)


def build_cache(where: str | Path, name: str, paths: list[Path], shapes: list[tuple[int, int]]) -> ImageCache:
    """Decode all images once, or map what an earlier run has left.

    A cache on disk is one folder that appears when it is complete. It carries a digest of the images' names and file
    sizes and of the size they were resized to; when that differs from what is asked, the cache is built anew.

    Args:
        where: "memory", or a folder on a local disk for a memory-mapped file.
        name: name of the cache inside that folder.
        paths: the image files.
        shapes: height and width of each after resizing.

    Raises:
        OSError: an image cannot be read, or the disk has too little space; nothing is left behind.
    """
    sizes = np.array(shapes, dtype=np.int64)
    total = int(3 * sizes.prod(axis=1).sum())
    if where == "memory":
        return ImageCache(_fill(np.empty(total, np.uint8), paths, shapes), sizes)

    folder = Path(where) / name
    key = _key(paths, shapes)
    if not _matches(folder, key, total):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _build_on_disk(folder, key, total, paths, shapes)
    return ImageCache(np.memmap(folder / "pixels.u8", np.uint8, mode="r", shape=(total,)), sizes)


def _build_on_disk(folder: Path, key: str, total: int, paths: list[Path], shapes: list[tuple[int, int]]) -> None:
    remove_leftovers(folder.parent, ".building-*")
    free = shutil.disk_usage(folder.parent).free
    if free < total * 1.02:
        raise OSError(f"the image cache needs {total / 1e6:.0f} MB in {folder.parent}, {free / 1e6:.0f} MB are free")
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        (work / "new").mkdir()
        pixels = np.memmap(work / "new" / "pixels.u8", np.uint8, mode="w+", shape=(total,))
        _fill(pixels, paths, shapes).flush()
        del pixels
        (work / "new" / "index.json").write_text(json.dumps({"key": key, "images": len(paths), "bytes": total}))
        if folder.exists():
            os.replace(folder, work / "stale")
        try:
            os.replace(work / "new", folder)
        except OSError:
            if not _matches(folder, key, total):  # else another process was faster, with the same images
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _matches(folder: Path, key: str, total: int) -> bool:
    try:
        index = json.loads((folder / "index.json").read_text())
        return index["key"] == key and (folder / "pixels.u8").stat().st_size == total
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _key(paths: list[Path], shapes: list[tuple[int, int]]) -> str:
    """Digest of all that the pixels depend on."""
    content = [[path.name, path.stat().st_size, *shape] for path, shape in zip(paths, shapes)]
    return hashlib.sha256(json.dumps([CACHE_VERSION, content]).encode()).hexdigest()


def _fill(pixels: np.ndarray, paths: list[Path], shapes: list[tuple[int, int]]) -> np.ndarray:
    """Decode all images into `pixels`, on all cores: Pillow lets go of Python's lock while it works."""
    start = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        images = _in_order(pool, decode, paths, shapes)
        for image in tqdm(images, total=len(paths), desc="decoding and resizing once", unit="image"):
            pixels[start : start + image.size] = image.reshape(-1)
            start += image.size
    return pixels


def _in_order(pool: ThreadPoolExecutor, function: Callable, *lists: list, ahead: int = 64) -> Iterator[np.ndarray]:
    """As `pool.map`, but never more than `ahead` results wait in memory, and an error ends the work at once."""
    waiting = []
    try:
        for arguments in zip(*lists):
            waiting.append(pool.submit(function, *arguments))
            if len(waiting) > ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for task in waiting:
            task.cancel()
