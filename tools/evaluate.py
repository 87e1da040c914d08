"""`kit evaluate`: every figure and picture of a trained detector, from the folder of its run."""

import argparse
import hashlib
import json
import re
from pathlib import Path

from autograder.errors import KitError

LEARNED_NOTHING = 0.01  # mAP of a run that is too short
SHOWN_SCORE = 0.3  # pictures and counts of mistakes leave out what nobody would look at
# Of section "data", what an evaluation reads; the rest belongs to the training.
READ = ("data.root", "data.image_size")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a run that `kit train` has made")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as evaluate.split=train")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a state dict (default: weights.pt of the run)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the results (default: the run's, or one in it)"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda")


def run(args: argparse.Namespace) -> int:
    """Evaluate the run's detector."""
    from tools import runs
    from tools.configuration import load_configuration

    if not (args.folder / runs.CONFIGURATION).is_file():
        raise KitError(f"{args.folder} is no run's folder: there is no {runs.CONFIGURATION} in it")
    file = args.folder / runs.CONFIGURATION
    configuration = load_configuration(file, args.overrides)
    own = load_configuration(file)
    changed = {
        f"{section}.{key}": value
        for section, values in configuration.items()
        for key, value in values.items()
        if value != own[section][key] and f"{section}.{key}" not in ("data.cache", "evaluate.batch_size")
    }
    for name in changed:
        section = name.partition(".")[0]
        if section == "train" or (section == "data" and name not in READ) or name == "model.weights":
            raise KitError(f"{name} changes nothing in an evaluation; `kit train` takes it")
    out = args.out or _place(args.folder, changed, args.weights)
    evaluate_run(args.folder, configuration, runs.choose_device(args.device), args.weights, out)
    return 0


def _place(folder: Path, changed: dict[str, object], weights: Path | None) -> Path:
    """Where results go: the run's folder holds those of its own settings and weights alone."""
    from tools import runs

    if not changed and weights is None:
        return folder
    words = [f"{key.partition('.')[2]}={value}" for key, value in changed.items()]
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode())
    if weights is not None:
        words.append(weights.stem)
        digest.update(weights.read_bytes() if weights.is_file() else b"")  # the lack of it is said later
    name = re.sub(r"[^\w.=,+-]", "_", ",".join(words))[:80]
    return folder / runs.EVALUATIONS / f"{name}-{digest.hexdigest()[:8]}"


def open_images(configuration: dict):
    """Open the images to evaluate on, when the evaluation will make sense.

    Args:
        configuration: from `load_configuration`.

    Returns:
        A data set, see `runs.open_split`.

    Raises:
        KitError: an option of section "evaluate" is out of its range, or the data are not there or show no object.
    """
    from helpers.evaluation import MODES
    from helpers.inference import ground_truth_of
    from tools import runs

    options = configuration["evaluate"]
    ranges = {
        "mode": (options["mode"] in MODES, f"one of {', '.join(MODES)}"),
        "iou_threshold": (0 < options["iou_threshold"] <= 1, "above 0 and at most 1"),
        "score_thresh": (0 <= options["score_thresh"] < 1, "at least 0 and below 1"),
        "nms_thresh": (0 <= options["nms_thresh"] <= 1, "from 0 to 1"),
        "pixel_offset": (options["pixel_offset"] in (0, 1), "0 or 1"),
        "batch_size": (options["batch_size"] >= 1, "at least 1"),
    }
    for name, (fits, allowed) in ranges.items():
        if not fits:
            raise KitError(f"evaluate.{name} must be {allowed}, not {options[name]!r}")
    dataset = runs.open_split(configuration["data"], options["split"], options["images"], training=False)
    if all(difficult.all() for *_, difficult in ground_truth_of(dataset).values()):
        raise KitError(
            f"the {options['split']!r} images show no object, or only difficult ones: no AP is defined on them"
        )
    return dataset


def evaluate_run(
    folder: Path, configuration: dict, device: str, weights: Path | None = None, out: Path | None = None
) -> dict:
    """Measure the detector of a run, write `metrics.json` and pictures, and print the figures.

    Args:
        folder: of the run.
        configuration: from `load_configuration`.
        device: where to compute.
        weights: another state dict than the run's own.
        out: another folder for the results than the run's.

    Returns:
        The content of `metrics.json`.

    Raises:
        KitError: the weights are missing or do not fit, the data are not there, nothing can be written to the folder,
            or the detector fails.
    """
    from helpers.inference import detect, ground_truth_of
    from tools import runs

    dataset = open_images(configuration)
    options, out, weights = configuration["evaluate"], out or folder, weights or folder / runs.WEIGHTS
    names = runs.class_names(dataset)
    detector = runs.build_detector(configuration["model"], len(names), pretrained=False)
    _load_weights(detector, weights)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KitError(f"--out {out}: {error.strerror}") from error
    print(runs.describe(dataset, options["split"]))
    thresholds = options["score_thresh"], options["nms_thresh"]
    try:
        predictions = detect(detector, dataset, *thresholds, device, batch_size=options["batch_size"])
    except OSError as error:
        raise KitError(str(error)) from error
    except Exception as error:  # the folder's code may raise anything
        place = runs.where(error, configuration["model"])
        raise _cannot_be_evaluated(configuration, f"{type(error).__name__}: {error} ({place})") from error
    try:
        metrics, pictures = measure(predictions, ground_truth_of(dataset), names, options, dataset)
    except ValueError as error:  # of what the detector has returned
        raise _cannot_be_evaluated(configuration, str(error)) from error
    metrics["configuration"] = {section: configuration[section] for section in ("data", "model", "evaluate")}
    metrics["weights"] = {"file": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    (out / runs.METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    for name, figure in zip(runs.PICTURES, pictures):
        figure.savefig(out / name, dpi=110)
    _print(metrics)
    print(f"all figures and pictures are in {out}")
    return metrics


def _cannot_be_evaluated(configuration: dict, reason: str) -> KitError:
    folder = configuration["model"]["folder"]
    return KitError(f"{folder}: what its detector gives cannot be evaluated: {' '.join(reason.split())[:500]}")


def measure(predictions: dict, ground_truth: dict, names: dict[int, str], options: dict, images) -> tuple[dict, list]:
    """Compute everything there is to say about some detections.

    Args:
        predictions: as in `evaluate_voc`.
        ground_truth: the same.
        names: class index -> name.
        options: section "evaluate" of a configuration.
        images: a data set whose item n is (path, image, ...), for the gallery. Where it knows its files (`file_scale`),
            everything is measured in their pixels, as VOC and COCO do.

    Returns:
        (plain numbers for a JSON file, figures in the order of `runs.PICTURES`).
    """
    from helpers.coco import evaluate_coco
    from helpers.errors import confusion_figure, cost_of_errors, error_bars, find_errors
    from helpers.evaluation import MODES, ORIGINAL_SCORE, evaluate_as_original, evaluate_voc
    from helpers.inference import in_file_pixels
    from helpers.misses import miss_gallery
    from helpers.plots import ap_bars, precision_recall_curves

    count, threshold, offset = len(names), options["iou_threshold"], options["pixel_offset"]
    shown = max(SHOWN_SCORE, options["score_thresh"])
    gallery = miss_gallery(images, predictions, ground_truth, names, shown, threshold)
    predictions, ground_truth = (in_file_pixels(images, boxes) for boxes in (predictions, ground_truth))
    result = evaluate_voc(predictions, ground_truth, count, threshold, options["mode"], offset)
    original = None  # of what it keeps some may be left out already
    if options["score_thresh"] <= ORIGINAL_SCORE:
        original = evaluate_as_original(predictions, ground_truth, count, ORIGINAL_SCORE)
    errors = find_errors(predictions, ground_truth, count, shown, threshold, offset)
    cost = cost_of_errors(find_errors(predictions, ground_truth, count, 0.0, threshold, offset), count)
    try:
        coco = evaluate_coco(predictions, ground_truth, count)
    except ImportError as error:
        coco = {"missing": str(error)}
    metrics = {
        **result.as_dict(names),
        "images": len(ground_truth),
        "detections": sum(len(scores) for _, _, scores in predictions.values()),
        "other_modes": {
            mode: evaluate_voc(predictions, ground_truth, count, threshold, mode, offset).mean_ap for mode in MODES
        },
        "as_the_original_computed_it": original.mean_ap if original else None,
        "coco": coco,
        f"mistakes above {shown}": errors.counts(),
        "cost_of_mistakes": cost,
    }
    there = {names[k]: one for k, one in enumerate(result.classes) if one.num_objects}
    pictures = [
        ap_bars({name: one.ap for name, one in there.items()}),
        precision_recall_curves({name: (one.recall, one.precision, one.ap) for name, one in there.items()}),
        error_bars(errors, cost),
        confusion_figure(errors, names),
        gallery,
    ]
    return metrics, pictures


def _load_weights(detector, file: Path) -> None:
    import torch

    if not file.is_file():
        raise KitError(f"there are no weights at {file}; `kit train` writes them at its end")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many, and its advice for a pickle is not for files of others
        raise KitError(f"{file} holds no state dict that can be loaded safely: damaged, or something else") from error
    try:
        detector.load_state_dict(state)
    except Exception as error:
        raise KitError(f"{file} does not fit the detector: {' '.join(str(error).split())[:300]}") from error


def _print(metrics: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, title=f"{metrics['images']} images, {metrics['detections']} detections")
    table.add_column("figure")
    table.add_column("%", justify="right")
    rows = {f"VOC mAP at IoU {metrics['iou_threshold']:g}, {metrics['mode']}": metrics["mAP"]}
    rows |= {f"    {mode}": value for mode, value in metrics["other_modes"].items() if mode != metrics["mode"]}
    rows["    as the original computed it (wrong), at 0.5"] = metrics["as_the_original_computed_it"]
    rows |= {f"COCO {name}": value for name, value in metrics["coco"].items() if name != "missing"}
    for name, value in rows.items():
        table.add_row(name, "-" if value is None else f"{100 * value:.1f}")
    Console(highlight=False).print(table)
    if metrics["mAP"] is not None and metrics["mAP"] < LEARNED_NOTHING:
        print("so low a mAP means that nothing was learned yet: too few iterations, or something is wrong")
    sizes = "COCO counts an object by its pixels in the file, and the 100 surest detections of each class in an image"
    print(metrics["coco"].get("missing", sizes))
