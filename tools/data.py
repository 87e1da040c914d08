"""`kit data sample` draws the sample data set, `kit data voc2007` fetches the real one."""

import argparse
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import ROOT


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the two sub-commands."""
    which = parser.add_subparsers(dest="which", required=True, metavar="WHICH")
    sample = which.add_parser("sample", help="draw the generated sample (seconds, no network)")
    sample.add_argument(
        "--root", type=Path, default=ROOT / "data/sample", help="folder to put VOCdevkit/ in (data/sample)"
    )
    sample.add_argument("--train", type=int, default=160, help="training images")
    sample.add_argument("--val", type=int, default=80, help="validation images")
    sample.add_argument("--seed", type=int, default=0, help="another seed draws other images")
    voc = which.add_parser(
        "voc2007", help="download PASCAL VOC 2007 (460 MB), or unpack an archive that is already there"
    )
    voc.add_argument(
        "--root", type=Path, default=ROOT / "data/voc2007", help="folder to put VOCdevkit/ in (data/voc2007)"
    )
    voc.add_argument("--set", choices=("trainval", "test"), default="trainval", help="which of the two archives")
    voc.add_argument(
        "--archive", type=Path, help="an archive (.tar or .zip) that you have, or a folder to look for it in"
    )


def run(args: argparse.Namespace) -> int:
    """Make or fetch the data and say where they are."""
    root = _sample(args) if args.which == "sample" else _voc2007(args)
    root = root.resolve()
    print(f"{root / 'VOCdevkit'} is ready: VOC2007DetectionTiny({str(root)!r})")
    return 0


def _sample(args: argparse.Namespace) -> Path:
    from helpers.sample import make_sample

    if args.train < 1 or args.val < 1:
        raise KitError("--train and --val must be at least 1")
    try:
        return make_sample(args.root, train=args.train, val=args.val, seed=args.seed)
    except OSError as error:
        raise KitError(str(error)) from error


def _voc2007(args: argparse.Namespace) -> Path:
    from helpers.download import DownloadError, download_voc2007

    try:
        return download_voc2007(args.root, which=args.set, archive=args.archive)
    except (DownloadError, OSError) as error:
        raise KitError(str(error)) from error
