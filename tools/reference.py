"""`kit reference`: write the inputs and expected results of the graded tests, from the builders and the solutions."""

import tempfile
import zlib

import torch

from autograder.case import FOLDER, dump_case
from autograder.errors import KitError
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
    parser.add_argument("--only", metavar="TEXT", help="cases whose name holds this text")


def run(args) -> int:
    """Write or compare every stored case."""
    stored = {name: case for name, case in CASES.items() if case[0] != "fresh"}
    chosen = {name: case for name, case in stored.items() if not args.only or args.only in name}
    if not chosen:
        raise KitError(f"no stored case has {args.only!r} in its name")
    differing = 0
    for name, (visibility, builder) in chosen.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        content = dump_case(make_case(*builder(generator)))
        path = FOLDER / visibility / f"{name}.safetensors"
        if path.is_file() and path.read_bytes() == content:
            continue
        differing += 1
        if args.check:
            print(f"{visibility}/{name} differs from what the solutions give")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"wrote {visibility}/{name}")
    known = {FOLDER / visibility / f"{name}.safetensors" for name, (visibility, _) in stored.items()}
    for path in sorted(set(FOLDER.glob("*/*.safetensors")) - known):
        differing += 1
        print(f"{path.parent.name}/{path.stem} belongs to no case" + ("" if args.check else "; removed"))
        if not args.check:
            path.unlink()
    if not differing:
        print("the reference tensors are up to date")
    return 1 if args.check and differing else 0
