"""Training configurations: YAML files that build on each other, checked against what the code can do.

A key exists because a function takes an argument of that name, and so do its default and its type: `data` is the
arguments of `VOC2007DetectionTiny`, `train` those of `train_detector`, each with a few of the command's own.
"""

import difflib
import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from autograder.errors import KitError
from autograder.tasks import ROOT
from helpers.dataset import VOC2007DetectionTiny
from helpers.train import train_detector


@dataclass
class _Data:
    root: str | None = None  # folder that holds VOCdevkit; "sample" draws the sample, None reads FCOS_VOC_ROOT
    train_split: str = "train"
    train_images: int | None = None  # use only the first of them


@dataclass
class _Model:
    folder: str = "solutions"  # with common.py and one_stage_detector.py; their code runs unprotected
    fpn_channels: int = 64
    stem_channels: list = (64, 64)
    backbone: str = "regnet_x_400mf"
    weights: str | None = "DEFAULT"


@dataclass
class _Train:
    batch_size: int = 16  # images of one step, over all processes
    learning_rate_batch_size: int = 16  # the batch size that learning_rate is meant for; another one scales it
    num_workers: int | None = None  # loader processes; None starts some beside a GPU


@dataclass
class _Evaluate:
    split: str = "val"
    images: int | None = None
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    iou_threshold: float = 0.5
    mode: str = "area"
    pixel_offset: float = 0
    batch_size: int = 8


# section -> where its keys come from; arguments that a run fills in itself are no keys
SOURCES = {
    "data": (_Data, VOC2007DetectionTiny),
    "model": (_Model,),
    "train": (_Train, train_detector),
    "evaluate": (_Evaluate,),
}
FILLED_IN = {
    "dataset_dir", "split", "download", "crop",
    "detector", "train_loader", "device", "checkpoint", "resume", "progress", "tensorboard", "on_row",
}  # fmt: skip


def known_keys() -> dict[str, dict[str, inspect.Parameter]]:
    """Every key that a configuration may have.

    Returns:
        section -> key -> parameter, with default and annotation.
    """
    known = {}
    for section, sources in SOURCES.items():
        own, *others = (inspect.signature(source).parameters for source in sources)
        known[section] = dict(own) | {
            name: parameter for other in others for name, parameter in other.items() if name not in FILLED_IN
        }
    return known


def load_configuration(path: str | Path, overrides: list[str] = ()) -> dict[str, dict]:
    """Read a configuration with all that it builds on.

    Args:
        path: a YAML file. `base: FILE`, relative to it, names the file whose values it changes.
        overrides: "section.key=value", the value written as in YAML.

    Returns:
        section -> key -> value, every key present.

    Raises:
        KitError: a file is missing or broken, a key is unknown, or a value has the wrong type.
    """
    known = known_keys()
    values = {section: {k: _plain(p.default) for k, p in keys.items()} for section, keys in known.items()}
    for source, section, key, value in (*_read(Path(path), ()), *map(_parse_override, overrides)):
        if key not in known.get(section, {}):
            raise KitError(f"{source}: unknown key {section}.{key}; {_nearest(section, key, known)}")
        values[section][key] = _checked(value, known[section][key].annotation, f"{source}: {section}.{key}")
    return values


def save_configuration(values: dict[str, dict], path: Path) -> None:
    """Write a configuration in full, so that it can be read again whatever the defaults become.

    Args:
        values: from `load_configuration`.
        path: the file.
    """
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def differences(old: dict[str, dict], new: dict[str, dict]) -> list[str]:
    """Where two configurations differ.

    Args:
        old, new: from `load_configuration`.

    Returns:
        One "section.key old -> new" for each difference.
    """
    return [
        f"{section}.{key} {old.get(section, {}).get(key)} -> {value}"
        for section, keys in new.items()
        for key, value in keys.items()
        if old.get(section, {}).get(key) != value
    ]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML forbids it, but PyYAML drops the first one without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, str, str, object]]:
    """(file, section, key, value) of a file, those of its base first."""
    path = path.resolve()
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    if path in above:
        raise KitError(
            f"{name}: the files build on each other in a circle: {' -> '.join(p.name for p in (*above, path))}"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except OSError as error:
        raise KitError(f"the configuration {name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KitError(f"the configuration {name} is not a text in UTF-8") from error
    except yaml.YAMLError as error:
        raise KitError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise KitError(f"{name}: expected sections ({', '.join(SOURCES)}), got {type(content).__name__}")
    if "base" in content:
        yield from _read(path.parent / str(content.pop("base")), (*above, path))
    for section, keys in content.items():
        if section not in SOURCES:
            close = difflib.get_close_matches(str(section), ["base", *SOURCES], n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(SOURCES)}"
            raise KitError(f"{name}: unknown section {section}; {hint}")
        if not isinstance(keys, dict):
            raise KitError(f"{name}: {section} must hold keys, got {keys!r}")
        yield from ((name, section, str(key), value) for key, value in keys.items())


def _parse_override(text: str) -> tuple[str, str, str, object]:
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot):
        raise KitError(f"{text!r} is no override; write section.key=value, such as train.max_iters=100")
    try:
        return "command line", section, key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise KitError(f"{text!r}: the value is not YAML") from error


def _nearest(section: str, key: str, known: dict) -> str:
    """The key that was meant, in whatever section it is; this one's own come first."""
    homes = {k: s for s in (*known, section) if s in known for k in known[s]}
    close = difflib.get_close_matches(key, homes, n=1, cutoff=0.5)
    if close:
        return f"did you mean {homes[close[0]]}.{close[0]}?"
    return f"there are {', '.join(known.get(section, homes))}"


def _checked(value, annotation, where: str):
    """The value in a type that the annotation allows, or a `KitError`."""
    union = isinstance(annotation, types.UnionType)
    allowed = [typing.get_origin(one) or one for one in (typing.get_args(annotation) if union else (annotation,))]
    if value is None and types.NoneType in allowed:
        return None
    if isinstance(value, str) and float in allowed and str not in allowed:
        try:
            return float(value)  # YAML takes 5e-3 for a text: it wants 5.0e-3
        except ValueError:
            pass
    if isinstance(value, bool):
        fits = bool in allowed
    elif isinstance(value, int) and int not in allowed and float in allowed:
        return float(value)
    elif isinstance(value, (list, tuple)):
        fits = list in allowed or tuple in allowed
    else:
        fits = type(value) in allowed
    if not fits:
        names = " or ".join("null" if one is types.NoneType else one.__name__ for one in allowed if one is not Path)
        raise KitError(f"{where}: expected {names}, got {value!r}")
    return _plain(value)


def _plain(value):
    """YAML knows lists, no tuples."""
    return list(value) if isinstance(value, tuple) else value
