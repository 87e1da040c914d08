"""What does each part of the training recipe pay? One change at a time, on real VOC2007.

    FCOS_VOC_ROOT=... FCOS_BACKBONE_WEIGHTS=... python benchmarks/recipes.py [NAME ...] [--iterations N]
        [--image-size PIXELS] [--images N] [--jobs N] [--out DIR] [--json FILE]

Trains on the 2501 images of "train", 16 at a time, MobileNetV2 from ImageNet, and measures area AP at IoU 0.5 on the
2510 whole images of "val", scores above 0.05. Each run is `kit train` in a folder of its own: started again, a run that
was stopped goes on, and one that is done is only read. The table shows all runs of this length, size and number of
images that are done. Two bases are changed: "shuffle", the original's recipe with shuffled images, which most changes
need, and "ours". One seed each, so a point more or less is noise; "ours-another-seed" says how much.

--images trains on the first of "train" alone: 320 of them come 50 times in 1000 steps, as all do in the full run, which
shows what helps against learning them by heart. --jobs trains so many at once, each with its share of the cores.

Without names: "original" and "ours". All names: see `CHANGES`.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from autograder.oracle.patches import write_files
from tools.configuration import load_configuration
from tools.runs import CHECKPOINT, CONFIGURATION, METRICS, WEIGHTS, changed_settings
from tools.specimens import read_mutants, read_variants

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
    "ours-another-seed": ("voc2007_regnet", ["train.seed=1"]),
    "ours-without-flip": ("voc2007_regnet", ["data.hflip=0"]),
    "ours-without-scale-jitter": ("voc2007_regnet", ["data.scale_jitter=null"]),
    "ours-with-color-jitter": ("voc2007_regnet", ["data.color_jitter=0.3"]),
    "ours-without-warm-up": ("voc2007_regnet", ["train.warmup_iters=0"]),
    "ours-with-steps": ("voc2007_regnet", ["train.schedule=step"]),
    "ours-without-clipping": ("voc2007_regnet", ["train.clip_grad_norm=null"]),
    "ours-with-frozen-batch-norm": ("voc2007_regnet", ["train.freeze_batchnorm=true"]),
    "ours-with-one-rate": ("voc2007_regnet", ["train.backbone_lr_factor=1"]),
    "ours-with-sgd": ("voc2007_regnet", SGD),
    "row-column": ("voc2007_original", []),
    "stems-only-initialised": ("voc2007_original", []),
}
# name -> the network is not the solutions', but that of
SPECIMENS = {
    "row-column": "1.2/row-column",  # the order of coordinates that the original's text asks for
    "stems-only-initialised": "stems-only-initialised",  # prediction layers keep the weights that PyTorch gives them
}
FULL_SIZE = 224
HIGH_THRESHOLD = 0.4  # what the original's notebook keeps
NMS_THRESHOLDS = (0.4, 0.6)  # ours uses 0.5


def compared_with(name: str) -> str:
    """The run that differs from this one by the change alone."""
    if name in ("original", "shuffle", "ours", *SPECIMENS):
        return "original"
    if name.startswith("ours-"):
        return "ours"
    return "adamw" if name == "slow-backbone" else "shuffle"


@dataclass(frozen=True)
class Scale:
    """How long and on what all runs of a table are trained.

    Attributes:
        iterations: steps of 16 images.
        image_size: pixels of the shorter side, also of the images that they are measured on.
        images: so many of "train", the first; None takes all.
    """

    iterations: int
    image_size: int
    images: int | None

    def __str__(self) -> str:
        of = "" if self.images is None else f" on {self.images} images"
        return f"{self.iterations} iterations of 16 at {self.image_size} px{of}"

    def folder(self, name: str, out: Path) -> Path:
        """Where a run lies."""
        size = "" if self.image_size == FULL_SIZE else f"-{self.image_size}px"
        return out / f"{name}-{self.iterations}{size}{'' if self.images is None else f'-of{self.images}'}"


def train(name: str, scale: Scale, weights: str, out: Path, threads: int | None = None) -> int:
    """Train and evaluate one recipe, unless that is done.

    Args:
        name: one of `CHANGES`.
        scale: of the run.
        weights: of the backbone, a file.
        out: folder of all runs.
        threads: for torch. None leaves them to torch; otherwise what the run prints goes to a file beside its folder.

    Returns:
        The exit code of `kit train`, 0 where nothing was to do.
    """
    folder, path, settings = scale.folder(name, out), *recipe(name, scale, weights, out)
    if (folder / METRICS).is_file():
        changed = differences(name, scale, weights, out)
        if changed:
            print(f"{folder} is another run ({'; '.join(changed)}): move it away, or name another --out")
        return int(bool(changed))
    command = ["train", str(path), *settings, "--out", str(folder), "--resume"]
    if threads is None:
        return run(command)
    out.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.log", "w", encoding="utf-8") as log:
        print(f"{name}: prints to {log.name}\n", end="", flush=True)  # one write: others may print, too
        code = run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stdout=log, stderr=subprocess.STDOUT)
        print(f"{name}: {f'failed, see {log.name}' if code else 'done'}\n", end="", flush=True)
    return code


def recipe(name: str, scale: Scale, weights: str, out: Path) -> tuple[Path, list[str]]:
    """The configuration of a run, and what is changed in it."""
    configuration, changes = CHANGES[name]
    if name in SPECIMENS:
        place = out / f"{name}-solutions"
        place.mkdir(parents=True, exist_ok=True)
        write_files(
            next(one.files for one in [*read_mutants(), *read_variants()] if one.name == SPECIMENS[name]), place
        )
        changes = [f"model.folder={place}"]
    settings = [
        "model.backbone=mobilenet_v2",
        f"model.weights={weights}",
        f"train.max_iters={scale.iterations}",
        "train.channels_last=true",
        f"data.image_size={scale.image_size}",
        f"data.train_images={'null' if scale.images is None else scale.images}",
        f"data.cache={out / 'cache'}",
        *changes,
    ]
    return CONFIGS / f"{configuration}.yaml", settings


def differences(name: str, scale: Scale, weights: str, out: Path) -> list[str]:
    """What the run in a recipe's folder has otherwise than the recipe."""
    done = load_configuration(scale.folder(name, out) / CONFIGURATION)
    return changed_settings(done, load_configuration(*recipe(name, scale, weights, out)))


def run(command: list[str], **options) -> int:
    """Run a command of the kit in a process of its own; its exit code."""
    return subprocess.run([sys.executable, "-m", "tools.cli", *command], cwd=ROOT, **options).returncode


def evaluated(folder: Path, place: Path, *options: str) -> float:
    """mAP of a run that is evaluated otherwise, unless that is done; `place` receives it."""
    if not (place / METRICS).is_file() and run(["evaluate", str(folder), *options, "--out", str(place)]):
        sys.exit(f"{folder} could not be evaluated")
    return read_metrics(place)


def without_average(folder: Path) -> float:
    """mAP of the weights that the moving average follows, in the same run."""
    place = folder / "without-average"
    place.mkdir(exist_ok=True)
    weights = place / WEIGHTS
    torch.save(torch.load(folder / CHECKPOINT, weights_only=False, map_location="cpu")["model"], weights)
    return evaluated(folder, place, "--weights", str(weights))


def read_metrics(folder: Path) -> float:
    """mAP of a run that is done."""
    return json.loads((folder / METRICS).read_text(encoding="utf-8"))["mAP"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *CHANGES], metavar="NAME")
    parser.add_argument("--iterations", type=int, default=9000)
    parser.add_argument("--image-size", type=int, default=FULL_SIZE, help="shorter side in pixels; %(default)s")
    parser.add_argument("--images", type=int, help="of train, the first so many; all")
    parser.add_argument("--jobs", type=int, default=1, help="so many runs at once; %(default)s")
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
    names = list(dict.fromkeys(args.names)) or ["original", "ours"]
    threads = max(1, (os.cpu_count() or 1) // args.jobs) if args.jobs > 1 else None
    scale = Scale(args.iterations, args.image_size, args.images)
    weights = os.environ["FCOS_BACKBONE_WEIGHTS"]
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            codes = list(pool.map(lambda name: train(name, scale, weights, args.out, threads), names))
        except KeyboardInterrupt:  # the runs have heard it, too, and leave checkpoints
            pool.shutdown(cancel_futures=True)
            raise

    folders = {name: scale.folder(name, args.out) for name in CHANGES}
    done = [name for name, folder in folders.items() if (folder / METRICS).is_file()]
    figures = {name: read_metrics(folders[name]) for name in done if not differences(name, scale, weights, args.out)}
    also = {}
    if "original" in figures:
        also[f"original, only scores above {HIGH_THRESHOLD}"] = evaluated(
            folders["original"], folders["original"] / "high-threshold", f"evaluate.score_thresh={HIGH_THRESHOLD}"
        )
    if "ours" in figures:
        also["ours, without the average"] = without_average(folders["ours"])
        for threshold in NMS_THRESHOLDS:
            also[f"ours, NMS at {threshold}"] = evaluated(
                folders["ours"], folders["ours"] / f"nms-{threshold}", f"evaluate.nms_thresh={threshold}"
            )

    print(f"\n{scale}, area AP at IoU 0.5 on the 2510 images of val")
    for name, value in figures.items():
        base = compared_with(name)
        gain = f"{100 * (value - figures[base]):+6.1f} against {base}" if base in figures and base != name else ""
        print(f"{name:34} {100 * value:5.1f} % {gain}".rstrip())
    for name, value in also.items():
        base = name.split(",")[0]
        print(f"{name:34} {100 * value:5.1f} % {100 * (value - figures[base]):+6.1f} against {base}")
    if args.json:
        args.json.write_text(json.dumps({**asdict(scale), "mAP": figures | also}, indent=2) + "\n")
    failed = [name for name, code in zip(names, codes, strict=True) if code]
    if failed:
        sys.exit(f"not done: {', '.join(failed)}")


if __name__ == "__main__":
    main()
