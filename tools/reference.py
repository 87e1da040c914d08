"""`kit reference`: write the inputs and expected results of the graded tests, from the builders and the solutions."""

import tempfile
import zlib

import torch

from autograder.case import FOLDER, dump_case
from autograder.oracle import make_case
from autograder.oracle.all_cases import CASES
from autograder.oracle.cases import case
from helpers.dataset import IMAGENET_MEAN, IMAGENET_STD, VOC2007DetectionTiny
from helpers.sample import make_sample


def _training(learning_rate):
    with tempfile.TemporaryDirectory() as folder:
        make_sample(folder, train=8, val=1)
        dataset = VOC2007DetectionTiny(folder, "train", image_size=96)
        _, images, boxes = zip(*(dataset[i] for i in range(len(dataset))), strict=True)
    return "overfit", {
        "num_classes": 20,
        "images": (torch.stack(images) * IMAGENET_STD + IMAGENET_MEAN).round().to(torch.uint8),
        "gt_boxes": torch.stack(boxes),
        "iterations": 100,
        "batch_size": 4,
        "learning_rate": learning_rate,
    }


@case("hidden")
def overfit(generator):
    """A hundred steps on eight small images of the sample."""
    return _training(0.02)


@case("hidden")
def overfit_untrained(generator):
    """The same without learning: the losses rise as the moving normaliser settles. What training is measured by."""
    return _training(0.0)


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when a stored reference differs"
    )


def run(args) -> int:
    """Write or compare every stored case."""
    differing = 0
    expected_paths = set()
    for name, (visibility, builder) in CASES.items():
        if visibility == "fresh":
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        content = dump_case(make_case(*builder(generator)))
        path = FOLDER / visibility / f"{name}.safetensors"
        expected_paths.add(path)
        if path.is_file() and path.read_bytes() == content:
            continue
        differing += 1
        if args.check:
            print(f"{visibility}/{name} differs from what the solutions give")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"wrote {visibility}/{name}")
    for path in set(FOLDER.glob("*/*.safetensors")) - expected_paths:
        differing += 1
        print(f"{path.parent.name}/{path.stem} belongs to no case" + ("" if args.check else "; removed"))
        if not args.check:
            path.unlink()
    if not differing:
        print("the reference tensors are up to date")
    return 1 if args.check and differing else 0
