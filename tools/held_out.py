"""The options that measure trained detectors, the same for `kit grade`, `kit grade-class` and `kit gradescope`."""

import os
import sys
from pathlib import Path

from autograder.errors import KitError
from autograder.held_out import HeldOut, load_held_out
from autograder.tasks import ROOT
from helpers.progress import progress_bar


def add_arguments(parser, images: int = HeldOut.images) -> None:
    """Add the options; `images` are used when none are named."""
    group = parser.add_argument_group("trained detectors")
    group.add_argument("--weights", action="store_true", help="measure the mAP of fcos_detector.pt on held-out images")
    group.add_argument(
        "--held-out", type=Path, metavar="FOLDER", help="holds VOCdevkit/; by default FCOS_VOC_ROOT, or data/voc2007"
    )
    group.add_argument("--split", metavar="NAME", help="list of images in it (val)")
    group.add_argument("--images", type=int, metavar="N", help=f"so many, spread evenly over the list ({images})")


def held_out_images(args, images: int = HeldOut.images) -> HeldOut | None:
    """Return which images to measure on, None when nothing is to be measured.

    Raises:
        KitError: the options make no sense, or the images are not there.
    """
    if not args.weights:
        if (args.held_out, args.split, args.images) != (None, None, None):
            raise KitError("--held-out, --split and --images say what --weights is to be measured on: add --weights")
        return None
    if args.images is not None and args.images < 1:
        raise KitError(f"--images {args.images}: at least 1")
    root = args.held_out or os.environ.get("FCOS_VOC_ROOT") or ROOT / "data" / "voc2007"
    held_out = HeldOut(str(Path(root).resolve()), args.split or HeldOut.split, args.images or images)
    chosen = load_held_out(held_out)
    for n in progress_bar(range(len(chosen)), desc="held-out images", unit="image", leave=False, delay=1):
        chosen.check(n)
    if args.held_out is None:
        print(
            f"mAP is measured on {held_out.split!r} of {held_out.root}; VOC2007's answers are public: name "
            "images of your own with --held-out",
            file=sys.stderr,
        )
    return held_out
