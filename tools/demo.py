"""`kit demo`: the whole kit in a few minutes: a release, a graded class, a trained detector, all on one page."""

import base64
import io
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import FILES, ROOT, load_tasks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CLASS = Path(__file__).with_name("demo_class.toml")


@dataclass(frozen=True)
class Recipe:
    """How long the demo trains, on what."""

    source: str
    images: int
    image_size: int
    iterations: int
    batch_size: int
    learning_rate: float
    weights: str | None
    backbone: str = "mobilenet_v2"  # the quickest on a CPU
    is_real: bool = False  # photographs; else the generated sample


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "demo", metavar="DIR", help="folder for all results"
    )
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="training steps (default: about two minutes' worth)"
    )


def run(args) -> int:
    """Do everything, then print where the page lies."""
    import tools.release as release

    recipe, root = _choose_data(args.iterations)
    args.out.mkdir(parents=True, exist_ok=True)
    print("1/4 building the release")
    files = release.student_files()
    release.write_zip(args.out / "fcos-assignment.zip", files, "fcos-assignment")
    print("2/4 grading the class: the skeleton, the solutions and typical mistakes")
    graded = grade_class(args.out / "class")
    _print_class(graded)
    print(f"3/4 overfitting the reference on {recipe.images} images of {recipe.source}")
    pictures, figures = train_and_draw(recipe, root)
    print("4/4 writing the page")
    page = args.out / "index.html"
    page.write_text(_page(graded, recipe, pictures, figures, len(files)), encoding="utf-8")
    (args.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"mAP on the training images {figures['mAP']:.1%}\nopen {page}")
    return 0


def _choose_data(iterations: int | None) -> tuple[Recipe, Path]:
    """Real VOC2007 when FCOS_VOC_ROOT names it, else the generated sample."""
    voc, weights = os.environ.get("FCOS_VOC_ROOT"), os.environ.get("FCOS_BACKBONE_WEIGHTS")
    if voc:
        if not (Path(voc) / "VOCdevkit" / "VOC2007").is_dir():
            raise KitError(f"FCOS_VOC_ROOT={voc}: no VOCdevkit/VOC2007 in there; unset it to use the generated sample")
        if weights and not Path(weights).is_file():
            raise KitError(f"FCOS_BACKBONE_WEIGHTS={weights}: no such file")
        # From random weights a detector needs many more steps than from ImageNet's; nothing is downloaded for a demo.
        rate = 2e-2 if weights else 5e-2
        recipe = Recipe("real VOC2007", 32, 224, iterations or 200, 8, rate, weights, is_real=True)
        return recipe, Path(voc)
    from helpers.sample import make_sample

    root = make_sample(ROOT / "data" / "sample")
    return Recipe("the generated sample", 24, 128, iterations or 250, 8, 5e-2, None), root


def grade_class(folder: Path) -> list[dict]:
    """Grade every submission of the demo class.

    Args:
        folder: for the submissions and their results; emptied first.

    Returns:
        One {"name", "story", "results"} for each.
    """
    from tqdm import tqdm

    from autograder.grade import grade
    from autograder.report import results_page
    from autograder.sandbox import Worker

    shutil.rmtree(folder, ignore_errors=True)
    table, graded = load_tasks(), []
    tasks = {task.id for task in table.graded if not task.measures}  # a demo keeps no images back
    with Worker() as worker:
        for name, (story, path) in tqdm(_lay_out_class(folder).items(), desc="grading", unit="submission"):
            results = grade(path, table, tasks, worker=worker)
            (folder / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            (folder / f"{name}.html").write_text(results_page(results, title=name), encoding="utf-8")
            graded.append({"name": name, "story": story, "results": results})
    return graded


def _lay_out_class(folder: Path) -> dict[str, tuple[str, Path]]:
    """Write the submissions' files; returns name -> (story, folder)."""
    submissions = {
        "skeleton": ("what students start from", ROOT / "assignment"),
        "solutions": ("the reference", ROOT / "solutions"),
    }
    for row in tomllib.loads(CLASS.read_text(encoding="utf-8"))["submission"]:
        path = folder / row["name"]
        path.mkdir(parents=True)
        for name in FILES:
            source = "assignment" if name in row.get("skeleton", ()) else "solutions"
            text = (ROOT / source / name).read_text(encoding="utf-8")
            for change in row.get("change", ()):
                if change["file"] == name:
                    if text.count(change["find"]) != 1:
                        raise KitError(f"{CLASS}: {row['name']}: {change['find']!r} is not in {name} exactly once")
                    text = text.replace(change["find"], change["replace"])
            (path / name).write_text(text, encoding="utf-8")
        submissions[row["name"]] = (row["story"], path)
    return submissions


def _print_class(graded: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))  # without lines all of it fits into 80 columns
    table.add_column("submission", no_wrap=True)
    for task in graded[0]["results"]["tasks"]:
        table.add_column(task["id"], justify="right")
    table.add_column("total", justify="right")
    for row in graded:
        points = [str(task["points"]) for task in row["results"]["tasks"]]
        table.add_row(row["name"], *points, str(row["results"]["total"]))
    Console(highlight=False).print(table)


def train_and_draw(recipe: Recipe, root: Path) -> tuple[dict[str, str], dict]:
    """Overfit the reference on a few images, evaluate it on them, and draw what happened.

    Args:
        recipe: what to train, for how long.
        root: folder that holds VOCdevkit.

    Returns:
        Pictures as data URIs by name, and the figures: mAP, AP of each class, losses.
    """
    from torch.utils.data import DataLoader

    from autograder.oracle import load_solutions
    from helpers.dataset import VOC2007DetectionTiny, collate
    from helpers.evaluation import evaluate_voc
    from helpers.inference import detect
    from helpers.plots import ap_bars, loss_curves
    from helpers.seed import reset_seed
    from helpers.train import train_detector

    reset_seed(0)
    dataset = VOC2007DetectionTiny(root, "train", image_size=recipe.image_size)
    items = [dataset[i] for i in range(recipe.images)]  # decoded once
    detector = load_solutions().FCOS(20, 64, [64, 64], weights=recipe.weights, backbone=recipe.backbone)
    history = train_detector(
        detector,
        DataLoader(items, batch_size=recipe.batch_size, shuffle=True, drop_last=True, collate_fn=collate),
        learning_rate=recipe.learning_rate,
        max_iters=recipe.iterations,
        log_period=5,
        schedule="cosine",
        warmup_iters=20,
        clip_grad_norm=5.0,
        channels_last=True,
    )
    predictions = detect(detector, items, score_thresh=0.05, nms_thresh=0.5)
    truth = {key: dataset.ground_truth(key) for key in predictions}
    result = evaluate_voc(predictions, truth, num_classes=20)
    names = dataset.idx_to_class
    figures = result.as_dict(names) | {"data": recipe.source, "images": recipe.images, "iterations": recipe.iterations}
    figures["last_losses"] = {name: history.rows[-1][name] for name in history.losses}
    losses = {name: history.column(name) for name in history.losses}
    pictures = {
        "losses": loss_curves(losses, history.column("iteration")),
        "detections": _detections(items[:12], predictions, names),
        "ap": ap_bars(figures["AP"], title=f"AP on the training images, mean {result.mean_ap:.1%}"),
    }
    for name in ("losses", "ap"):  # they stand side by side
        pictures[name].set_size_inches(7, 5.4)
    return {name: _data_uri(figure) for name, figure in pictures.items()}, figures


def _detections(items, predictions, names):
    """A grid of images with ground truth and the surest detections."""
    import torch

    from helpers.visualize import detection_grid

    found = []
    for index in range(len(items)):
        boxes, classes, scores = (torch.as_tensor(values) for values in predictions[index])
        sure = scores > 0.4
        found.append(torch.cat([boxes[sure], classes[sure, None], scores[sure, None]], dim=1))
    return detection_grid([image for _, image, _ in items], names, [boxes for _, _, boxes in items], found)


def _data_uri(figure) -> str:
    """A figure as a PNG inside the page."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _page(graded, recipe, pictures, figures, released) -> str:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True)
    return environment.get_template("demo.html").render(
        graded=graded, recipe=recipe, pictures=pictures, figures=figures, released=released
    )
