"""A training run's folder, and the data, detector and device that its configuration asks for."""

import contextlib
import hashlib
import inspect
import json
import os
import traceback
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from autograder.errors import KitError
from autograder.tasks import FILES, ROOT
from helpers.annotations import AnnotationError
from helpers.dataset import VOC2007DetectionTiny
from helpers.inference import whole_and_indices
from helpers.sampling import leave_interrupts_to_the_loop
from tools.configuration import differences, known_keys

CONFIGURATION, CHECKPOINT, WEIGHTS = "config.yaml", "checkpoint.pt", "weights.pt"
HISTORY, LOSSES, METRICS = "history.jsonl", "losses.png", "metrics.json"
IMAGES = "images.json"  # which images the run is trained on
TENSORBOARD, EVALUATIONS = "tensorboard", "evaluations"  # folders
PICTURES = ("ap.png", "precision_recall.png", "errors.png", "confusion.png", "misses.png")
FILES_OF_A_RUN = (CONFIGURATION, IMAGES, CHECKPOINT, WEIGHTS, HISTORY, LOSSES, METRICS, *PICTURES)
GPU_WORKERS = 4  # loader processes beside one GPU
# What a resumed run may have otherwise than its first part: it decides where and when, not what comes out.
FREE_TO_CHANGE = {"data.root", "data.cache", "train.num_workers", "train.log_period", "train.checkpoint_period"}


def changed_settings(old: dict, new: dict) -> list[str]:
    """What of a configuration would let another run come out.

    Args:
        old, new: from `load_configuration`.

    Returns:
        A line "section.key old -> new" for each setting, but for those of `FREE_TO_CHANGE`.
    """
    return [line for line in differences(old, new) if line.split()[0] not in FREE_TO_CHANGE]


def choose_device(name: str) -> str:
    """Resolve "auto" to the GPU where there is one.

    Args:
        name: "auto", "cpu", "cuda", or "cuda:1".

    Returns:
        The device's name.

    Raises:
        KitError: there is no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise KitError(f"--device {name}: name auto, cpu, cuda, or one GPU such as cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise KitError(f"--device {name}: this machine has no CUDA GPU that PyTorch can use")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise KitError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs, the first is cuda:0")
    return name


def data_root(data: dict) -> Path:
    """Find the folder that holds VOCdevkit.

    Args:
        data: that section of a configuration.

    Returns:
        The folder: `root`, or the generated sample, or FCOS_VOC_ROOT, or data/voc2007.

    Raises:
        KitError: there is no VOCdevkit in it; the message says how to get one.
    """
    if data["root"] == "sample":
        from helpers.sample import make_sample

        return make_sample(ROOT / "data" / "sample")
    root = Path(data["root"] or os.environ.get("FCOS_VOC_ROOT") or ROOT / "data" / "voc2007")
    if not (root / "VOCdevkit" / "VOC2007").is_dir():
        raise KitError(
            f"{root} holds no VOCdevkit/VOC2007: fetch it with `kit data voc2007`, name another folder with "
            "data.root=FOLDER, or use the generated sample with data.root=sample"
        )
    return root


def open_split(data: dict, split: str, images: int | None, training: bool):
    """Open one split.

    Args:
        data: that section of a configuration.
        split: such as "train".
        images: use only the first of them; `None` uses all.
        training: cropped, with augmentation and cache, or whole.

    Returns:
        A `VOC2007DetectionTiny` or a `Subset` of one.

    Raises:
        KitError: the data are not there or not in VOC's form, or an option is out of range.
    """
    options = {k: v for k, v in data.items() if k not in ("root", "train_split", "train_images")} | {"crop": True}
    if not training:
        options = {"image_size": data["image_size"], "crop": False}
    try:
        dataset = VOC2007DetectionTiny(data_root(data), split, **options)
    except (OSError, AnnotationError, ValueError) as error:
        raise KitError(str(error)) from error
    if images is None or images >= len(dataset):
        return dataset
    if images < 1:
        raise KitError(f"the number of {split} images must be at least 1, not {images}")
    return Subset(dataset, range(images))


def class_names(dataset) -> dict[int, str]:
    """Class index -> name.

    Args:
        dataset: from `open_split`.

    Returns:
        Its `idx_to_class`.
    """
    return whole_and_indices(dataset)[0].idx_to_class


def describe(dataset, split: str) -> str:
    """Say what there is to see in some images.

    Args:
        dataset: from `open_split`.
        split: its name.

    Returns:
        A line with the numbers of images and objects, and of the objects that a centre crop leaves out.
    """
    whole, indices = whole_and_indices(dataset)
    counts = whole.summary(indices)
    line = f"{split}: {counts['images']} images, {counts['objects']} objects and {counts['difficult']} difficult ones"
    if not whole.crop or whole.crops_at_random or not counts["lost_objects"] + counts["lost_difficult"]:
        return line
    return f"{line}; {counts['lost_objects']} and {counts['lost_difficult']} of them are outside of the centre crop"


def describe_random_crops(dataset) -> str:
    """Say how many objects random crops have left out so far.

    Args:
        dataset: from `open_split`.

    Returns:
        A line with its end, or nothing where no image was cropped at random.
    """
    counts = whole_and_indices(dataset)[0].summary()
    shown, lost = counts["random_crop_shown"], counts["random_crop_lost"]
    if not shown:
        return ""
    share = f"{lost} of {shown} ({100 * lost / shown:.1f} %)"
    return f"random crops left out {share} of the objects that they could have shown\n"


def check_same_images(dataset, folder: Path, note: bool = True) -> None:
    """See to it that a run goes on with the images that it began with, wherever they lie now.

    Args:
        dataset: from `open_split`.
        folder: of the run.
        note: write down there which images it has, where that is not known yet.

    Raises:
        KitError: the run began with others.
    """
    whole, indices = whole_and_indices(dataset)
    annotations = [whole.annotations[i] for i in (range(len(whole)) if indices is None else indices)]
    digest = hashlib.sha256()
    for one in annotations:
        arrays = (one.boxes, one.classes, one.difficult)
        digest.update(json.dumps([one.id, one.width, one.height, *map(np.ndarray.tolist, arrays)]).encode())
    now = {"images": len(annotations), "sha256": digest.hexdigest()}
    file = folder / IMAGES
    if not file.is_file():
        if note:
            part = file.with_suffix(".part")
            part.write_text(json.dumps(now) + "\n", encoding="utf-8")
            os.replace(part, file)
        return
    began = json.loads(file.read_text(encoding="utf-8"))
    if began != now:
        raise KitError(
            f"{folder} holds a run that was trained on other images or annotations ({began['images']} images, now "
            f"{now['images']}): name their folder (data.root=FOLDER), or start anew with --overwrite or another --out"
        )


def last_line(error: BaseException) -> str:
    """The message of an error without the traceback that loader processes put before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if "DataLoader worker" in lines[0] else "\n".join(lines)


def where(error: BaseException, model: dict) -> str:
    """Say which line an error comes from: the last one in the folder of the detector, or the last one of all.

    Args:
        error: one that was raised.
        model: that section of a configuration.

    Returns:
        "FILE, line N".
    """
    frames, folder = traceback.extract_tb(error.__traceback__), _folder_of(model).resolve()
    own = [frame for frame in frames if folder in Path(frame.filename).resolve().parents]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def build_detector(model: dict, num_classes: int, pretrained: bool = True) -> torch.nn.Module:
    """Build the FCOS of a folder.

    Args:
        model: that section of a configuration.
        num_classes: K.
        pretrained: start the backbone from `weights`; not needed where a whole detector is loaded anyway.

    Returns:
        The detector, on the CPU.

    Raises:
        KitError: the folder lacks a file, its code fails, or the backbone's weights are not there.
    """
    from autograder.oracle import load_solutions
    from autograder.worker.models import offline_models

    folder = _folder_of(model)
    for name in FILES:
        if not (folder / name).is_file():
            raise KitError(f"model.folder: there is no {folder / name}")
    try:
        with contextlib.nullcontext() if pretrained else offline_models():
            FCOS = load_solutions(folder=folder.resolve()).FCOS
            options = {"backbone": model["backbone"], "weights": model["weights"] if pretrained else None}
            known = inspect.signature(FCOS).parameters
            if "weights" not in known:  # written for the original assignment: it has a backbone of its own
                _check_default_backbone(folder, model, ("backbone", "weights") if pretrained else ("backbone",))
                options = {}
            return FCOS(num_classes, model["fpn_channels"], list(model["stem_channels"]), **options)
    except KitError:
        raise
    except Exception as error:  # the folder's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise KitError(
            f"{folder}: FCOS with the backbone {model['backbone']} and its weights {model['weights']} cannot be built: "
            f"{reason[:300] + '...' * (len(reason) > 300)} (model.weights=FILE takes a state dict of this backbone, "
            "model.weights=null random weights; model.backbone=NAME names another one)"
        ) from error


def _folder_of(model: dict) -> Path:
    folder = Path(model["folder"])
    return folder if folder.is_absolute() or folder.is_dir() else ROOT / folder


def _check_default_backbone(folder: Path, model: dict, names: tuple[str, ...]) -> None:
    """Refuse settings that a detector of the original signature, FCOS(num_classes, fpn_channels, stem_channels), lacks.

    It would train with its own backbone, and the run's configuration would name another.
    """
    own = {name: known_keys()["model"][name].default for name in names}
    changed = [f"model.{name}={model[name]}" for name in names if model[name] != own[name]]
    if changed:
        raise KitError(
            f"{folder}: FCOS takes neither backbone nor weights, so that {' and '.join(changed)} would change nothing; "
            f"give {' '.join(f'model.{name}={value}' for name, value in own.items())}"
        )


def training_loader(dataset, train: dict, device: str, world_size: int) -> DataLoader:
    """Make the loader of one training process.

    Args:
        dataset: from `open_split`.
        train: that section of a configuration.
        device: where it is trained; a GPU gets loader processes unless `num_workers` says otherwise.
        world_size: number of processes that share a batch.

    Returns:
        A loader; `train_detector` shuffles it.

    Raises:
        KitError: the batch cannot be shared evenly, or an option is out of its range.
    """
    for name, least in (("batch_size", 1), ("learning_rate_batch_size", 1), ("num_workers", 0)):
        if train[name] is not None and train[name] < least:
            raise KitError(f"train.{name} must be at least {least}, not {train[name]}")
    if train["batch_size"] % world_size:
        raise KitError(f"train.batch_size={train['batch_size']} cannot be shared by {world_size} processes")
    workers = train["num_workers"]
    if workers is None:  # a GPU would wait for views to be drawn; on the CPU they only take from each other
        workers = min(GPU_WORKERS, os.cpu_count() or 1) if device.startswith("cuda") else 0
    return DataLoader(
        dataset,
        batch_size=train["batch_size"] // world_size,
        num_workers=workers,
        worker_init_fn=leave_interrupts_to_the_loop,  # `train_detector` sees to it where it shuffles
        pin_memory=torch.cuda.is_available(),
    )
