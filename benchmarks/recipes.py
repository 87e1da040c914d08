"""What does each part of the training recipe pay? The original's recipe with one change at a time, on real VOC2007.

    FCOS_VOC_ROOT=... FCOS_BACKBONE_WEIGHTS=... python benchmarks/recipes.py [NAME ...] [--iterations N] [--json FILE]

Trains on the 2501 images of "train", 16 at a time, MobileNetV2 from ImageNet, and measures area AP at IoU 0.5 on the
2510 whole images of "val", scores above 0.05. Each run is `kit train` in a folder of its own: started again, a run that
was stopped goes on, and one that is done is only read. The table shows all runs of this length that are done. Most
changes need shuffled images, so they are compared with "shuffle"; one seed each, so a point more or less is noise.

Without names: "original" and "ours". All names: see `CHANGES`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from autograder.oracle.patches import write_files
from tools.configuration import load_configuration
from tools.runs import CONFIGURATION, METRICS, changed_settings
from tools.specimens import read_mutants

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
SHUFFLE = "train.seed=0"
ADAMW = ["train.optimizer=adamw", "train.learning_rate=0.001", "train.weight_decay=0.05"]
SGD = [
    "train.optimizer=sgd", "train.learning_rate=0.01", "train.weight_decay=0.0001", "train.backbone_lr_factor=1",
]  # fmt: skip
# name -> (configuration, what is changed in it). Augmentation is drawn by the seed that also shuffles.
CHANGES = {
    "original": ("voc2007_original", []),
    "shuffle": ("voc2007_original", [SHUFFLE]),
    "flip": ("voc2007_original", [SHUFFLE, "data.hflip=0.5"]),
    "scale-jitter": ("voc2007_original", [SHUFFLE, "data.scale_jitter=[0.7,1.4]"]),
    "color-jitter": ("voc2007_original", [SHUFFLE, "data.color_jitter=0.3"]),
    "warm-up": ("voc2007_original", [SHUFFLE, "train.warmup_iters=300"]),
    "higher-rate": ("voc2007_original", [SHUFFLE, "train.learning_rate=0.01"]),
    "cosine": ("voc2007_original", [SHUFFLE, "train.schedule=cosine"]),
    "average": ("voc2007_original", [SHUFFLE, "train.ema_decay=0.998"]),
    "frozen-batch-norm": ("voc2007_original", [SHUFFLE, "train.freeze_batchnorm=true"]),
    "adamw": ("voc2007_original", [SHUFFLE, *ADAMW]),
    "slow-backbone": ("voc2007_original", [SHUFFLE, *ADAMW, "train.backbone_lr_factor=0.1"]),
    "ours": ("voc2007_regnet", []),
    "ours-with-sgd": ("voc2007_regnet", SGD),
    "row-column": ("voc2007_original", []),  # with the order of coordinates that the original's text asks for
}
MUTANT = "1.2/row-column"
# others: with "shuffle"
COMPARED_WITH = dict.fromkeys(("original", "shuffle", "ours", "ours-with-sgd", "row-column"), "original")
COMPARED_WITH["slow-backbone"] = "adamw"
HIGH_THRESHOLD = 0.4  # what the original's notebook keeps


def train(name: str, iterations: int, weights: str, out: Path) -> None:
    """Train and evaluate one recipe, unless that is done."""
    folder = out / f"{name}-{iterations}"
    configuration, changes = CHANGES[name]
    if name == "row-column":
        place = out / "row-column-solutions"
        place.mkdir(parents=True, exist_ok=True)
        write_files(next(mutant.files for mutant in read_mutants() if mutant.name == MUTANT), place)
        changes = [f"model.folder={place}"]
    settings = [
        "model.backbone=mobilenet_v2",
        f"model.weights={weights}",
        f"train.max_iters={iterations}",
        "train.channels_last=true",
        f"data.cache={out / 'cache'}",
        *changes,
    ]
    path = CONFIGS / f"{configuration}.yaml"
    if (folder / METRICS).is_file():
        changed = changed_settings(load_configuration(folder / CONFIGURATION), load_configuration(path, settings))
        if changed:
            sys.exit(f"{folder} is another run ({'; '.join(changed)}): move it away, or name another --out")
        return
    run(["train", str(path), *settings, "--out", str(folder), "--resume"])


def run(command: list[str]) -> None:
    """Run a command of the kit; stop if it fails."""
    code = subprocess.run([sys.executable, "-m", "tools.cli", *command], cwd=ROOT).returncode
    if code:
        sys.exit(code)


def read_runs(iterations: int, out: Path) -> dict[str, dict]:
    """Figures of the runs that are done, by name."""
    folders = {name: out / f"{name}-{iterations}" for name in CHANGES}
    return {
        name: json.loads((folder / METRICS).read_text(encoding="utf-8"))
        for name, folder in folders.items()
        if (folder / METRICS).is_file()
    }


def threshold_cost(iterations: int, out: Path) -> float:
    """mAP of the original's weights when only confident detections are kept."""
    folder = out / f"original-{iterations}"
    place = folder / "high-threshold"
    if not (place / METRICS).is_file():
        run(["evaluate", str(folder), f"evaluate.score_thresh={HIGH_THRESHOLD}", "--out", str(place)])
    return json.loads((place / METRICS).read_text(encoding="utf-8"))["mAP"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *CHANGES], metavar="NAME")
    parser.add_argument("--iterations", type=int, default=9000)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "recipes")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    places = ("FCOS_VOC_ROOT", "FCOS_BACKBONE_WEIGHTS")
    if not all(os.environ.get(name) for name in places):
        sys.exit(
            "set FCOS_VOC_ROOT to the folder that holds VOCdevkit, and FCOS_BACKBONE_WEIGHTS to a MobileNetV2 file"
        )
    # The kit runs in the project's folder, wherever this was started.
    os.environ |= {name: os.path.abspath(os.environ[name]) for name in places}
    args.out = args.out.resolve()
    for name in args.names or ("original", "ours"):
        train(name, args.iterations, os.environ["FCOS_BACKBONE_WEIGHTS"], args.out)

    done = read_runs(args.iterations, args.out)
    figures = {name: metrics["mAP"] for name, metrics in done.items()}
    print(f"\n{args.iterations} iterations of 16, area AP at IoU 0.5 on the 2510 images of val")
    for name, value in figures.items():
        base = COMPARED_WITH.get(name, "shuffle")
        gain = f"{100 * (value - figures[base]):+6.1f} against {base}" if base in figures and base != name else ""
        print(f"{name:20} {100 * value:5.1f} % {gain}".rstrip())
    if "original" in done:
        figures["high threshold"] = threshold_cost(args.iterations, args.out)
        print(f"original's weights, only scores above {HIGH_THRESHOLD}: {100 * figures['high threshold']:.1f} %")
    if args.json:
        args.json.write_text(json.dumps({"iterations": args.iterations, "mAP": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
