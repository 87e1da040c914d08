"""A generated data set in true VOCdevkit format: the default of the kit, there without a download.

Every image is drawn from its own random stream, named by seed and number, so the files are the same bytes on every
machine with the same version of Pillow.
"""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import PIL
from PIL import Image, ImageChops, ImageDraw
from tqdm.auto import tqdm

from helpers.pictograms import PICTOGRAMS, draw_pictogram

SAMPLE_VERSION = 1  # goes up when the drawing changes, so that an old sample on disk is drawn anew
MIN_VISIBLE = 0.4  # a later object goes elsewhere rather than leave less than this share of an earlier one to be seen
MIN_SIDE = 14  # pixels; no box of the sample is narrower


def make_sample(root: str | Path, train: int = 160, val: int = 80, seed: int = 0) -> Path:
    """Draw the sample, or return at once when it is already there.

    Args:
        root: folder that will hold `VOCdevkit/VOC2007/{Annotations,ImageSets,JPEGImages}`.
        train, val: number of images of each split.
        seed: another seed draws other images.

    Returns:
        `root` as a path, ready for `VOC2007DetectionTiny(root)`.

    Raises:
        FileExistsError: `root` holds a VOCdevkit that this function did not make; it is left alone.
    """
    root = Path(root)
    devkit = root / "VOCdevkit"
    wanted = {"version": SAMPLE_VERSION, "pillow": PIL.__version__, "train": train, "val": val, "seed": seed}
    if _is_intact(devkit, wanted):
        return root
    if devkit.exists() and not (devkit / "sample.json").exists():
        raise FileExistsError(f"{devkit} is not a generated sample; name another folder to make the sample in")
    root.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".sample-", dir=root))
    try:
        _draw_all(work / "VOCdevkit", wanted)
        if devkit.exists():
            os.replace(devkit, work / "old")
        try:
            os.replace(work / "VOCdevkit", devkit)
        except OSError:
            if not _is_intact(devkit, wanted):  # else another process was faster, and its sample is the same
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return root


def _is_intact(devkit: Path, wanted: dict) -> bool:
    """Compare the manifest in `devkit` with what is wanted and with the sizes of the files."""
    try:
        manifest = json.loads((devkit / "sample.json").read_text())
        files = manifest.pop("files")
        return manifest == wanted and all((devkit / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _draw_all(devkit: Path, wanted: dict) -> None:
    voc = devkit / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (voc / folder).mkdir(parents=True)
    ids = [f"{number:06d}" for number in range(1, wanted["train"] + wanted["val"] + 1)]
    for name in tqdm(ids, desc="drawing the sample", unit="image"):
        image, objects = draw_scene(f"{wanted['seed']}/{name}")
        image.save(voc / "JPEGImages" / f"{name}.jpg", quality=90)
        (voc / "Annotations" / f"{name}.xml").write_text(_annotation(name, image.size, objects), newline="\n")
    shuffled = ids[:]
    random.Random(f"{wanted['seed']}/split").shuffle(shuffled)
    splits = {"train": shuffled[: wanted["train"]], "val": shuffled[wanted["train"] :], "trainval": ids}
    for split, members in splits.items():
        (voc / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{m}\n" for m in sorted(members)), newline="\n")
    files = {str(p.relative_to(devkit).as_posix()): p.stat().st_size for p in sorted(voc.rglob("*.*"))}
    (devkit / "sample.json").write_text(json.dumps({**wanted, "files": files}, indent=0) + "\n", newline="\n")


def draw_scene(name: str) -> tuple[Image.Image, list[dict]]:
    """Draw one image with one to six objects.

    Args:
        name: the name of its random stream; the same name gives the same image.

    Returns:
        The RGB image, and for each object `{"name", "box", "truncated", "difficult"}`; the box is `(x1, y1, x2, y2)` in
        1-based inclusive pixels, as VOC counts them.
    """
    rng = random.Random(name)
    long_side, short_side = rng.randint(320, 500), rng.randint(240, 340)
    width, height = (long_side, short_side) if rng.random() < 0.65 else (short_side, long_side)
    image = _background(rng, width, height)
    objects, masks = [], []
    for _ in range(rng.choices(range(1, 7), weights=(22, 26, 20, 14, 10, 8))[0]):
        for _ in range(12):  # attempts to find a free place
            placed = _place(rng, width, height)
            if placed is not None and _leaves_visible(placed, objects, masks):
                break
        else:
            continue
        image.paste(placed["paint"], (0, 0), placed["alpha"])
        if not placed["faint"]:
            masks = [ImageChops.subtract(old, placed["mask"]) for old in masks]
        masks.append(placed["mask"])
        objects.append(placed)
    # What a later object covers no longer counts: a box is drawn around what is visible, as VOC's annotators were told.
    found = []
    for placed, mask in zip(objects, masks):
        x1, y1, x2, y2 = mask.getbbox()
        covered = _area(mask) < 0.7 * _area(placed["mask"])
        found.append(
            {
                "name": placed["name"],
                "box": (x1 + 1, y1 + 1, x2, y2),
                "truncated": int(placed["truncated"] or covered),
                "difficult": int(placed["faint"] or min(x2 - x1, y2 - y1) < MIN_SIDE + 4),
            }
        )
    return image, found


def _area(mask: Image.Image) -> int:
    return mask.histogram()[255]


def _leaves_visible(placed: dict, objects: list[dict], masks: list[Image.Image]) -> bool:
    """Say whether enough of every earlier object would stay visible."""
    return all(
        _area(ImageChops.subtract(mask, placed["mask"])) >= MIN_VISIBLE * _area(old["mask"])
        for old, mask in zip(objects, masks)
    )


def _place(rng: random.Random, width: int, height: int) -> dict | None:
    """Choose class, size and place of one object; `None` when too little of it would lie inside the image."""
    name = rng.choice(sorted(PICTOGRAMS))
    aspect = PICTOGRAMS[name][0] * rng.uniform(0.85, 1.18)
    # Sizes are spread evenly on a logarithmic scale, so that every pyramid level gets its share.
    size = min(width, height) * 0.16 * (0.85 / 0.16) ** rng.random()
    w = min(round(size * aspect**0.5), round(0.95 * width))
    h = min(round(size / aspect**0.5), round(0.95 * height))
    if min(w, h) < MIN_SIDE:
        return None
    picture = draw_pictogram(name, w, h, tint=rng.uniform(-0.22, 0.22))
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        picture = picture.rotate(rng.uniform(-9, 9), resample=Image.Resampling.BICUBIC, expand=True)
    over = 0.18 if rng.random() < 0.25 else 0.0  # a quarter may stick out of the image by up to this share
    w, h = picture.size
    x = rng.randint(round(-over * w), max(round(-over * w), round(width - w * (1 - over))))
    y = rng.randint(round(-over * h), max(round(-over * h), round(height - h * (1 - over))))
    paint = Image.new("RGB", (width, height))
    paint.paste(picture, (x, y))
    alpha = Image.new("L", (width, height))
    alpha.paste(picture.getchannel("A"), (x, y))
    mask = alpha.point(lambda a: 255 if a >= 128 else 0)
    box = mask.getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < MIN_SIDE:
        return None
    faint = rng.random() < 0.08  # hard to see even for a person: marked `difficult`
    return {
        "name": name,
        "paint": paint,
        "alpha": alpha.point(lambda a: a // 4) if faint else alpha,
        "mask": mask,
        "faint": faint,
        "truncated": x < 0 or y < 0 or x + w > width or y + h > height,
    }


def _background(rng: random.Random, width: int, height: int) -> Image.Image:
    """Soft patches of muted colour, some thin lines, and grain: something to ignore."""
    cells_x, cells_y = rng.randint(3, 6), rng.randint(3, 5)
    base = rng.randint(90, 190)
    patches = bytes(max(0, min(255, base + rng.randint(-28, 28))) for _ in range(cells_x * cells_y * 3))
    image = Image.frombytes("RGB", (cells_x, cells_y), patches).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(4, 10)):
        grey = max(0, min(255, base + rng.randint(-45, 45)))
        ends = (rng.randint(0, width), rng.randint(0, height), rng.randint(0, width), rng.randint(0, height))
        draw.line(ends, fill=(grey, grey, grey), width=rng.randint(1, 4))
    grain = Image.frombytes("L", (width, height), rng.randbytes(width * height))
    return Image.blend(image, Image.merge("RGB", (grain, grain, grain)), 0.05)


def _annotation(name: str, size: tuple[int, int], objects: list[dict]) -> str:
    """Write an annotation with the elements of VOC2007, in their order, indented by tabs."""
    lines = [
        "<annotation>",
        "\t<folder>VOC2007</folder>",
        f"\t<filename>{name}.jpg</filename>",
        "\t<source>",
        "\t\t<database>FCOS course kit, generated sample</database>",
        "\t\t<annotation>PASCAL VOC2007 format</annotation>",
        "\t\t<image>drawn</image>",
        "\t</source>",
        "\t<size>",
        f"\t\t<width>{size[0]}</width>",
        f"\t\t<height>{size[1]}</height>",
        "\t\t<depth>3</depth>",
        "\t</size>",
        "\t<segmented>0</segmented>",
    ]
    for item in objects:
        x1, y1, x2, y2 = item["box"]
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(item['name'])}</name>",
            "\t\t<pose>Unspecified</pose>",
            f"\t\t<truncated>{item['truncated']}</truncated>",
            f"\t\t<difficult>{item['difficult']}</difficult>",
            "\t\t<bndbox>",
            f"\t\t\t<xmin>{x1}</xmin>",
            f"\t\t\t<ymin>{y1}</ymin>",
            f"\t\t\t<xmax>{x2}</xmax>",
            f"\t\t\t<ymax>{y2}</ymax>",
            "\t\t</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>"]) + "\n"
