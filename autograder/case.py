"""A case: a probe, its inputs and the right result. Stored without pickle, byte-identical on the same versions."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from autograder.errors import KitError

FOLDER = Path(__file__).resolve().parent / "reference"
FORMAT = 2


@dataclass(frozen=True)
class Case:
    """What a graded test asks of a submission.

    Attributes:
        probe: name of the probe in `autograder.worker.probes`.
        inputs: the probe's keyword arguments.
        expected: what it returns on the solutions, computed in float64.
        mistakes: function that gives known mistakes as pairs of a hint and what the probe returns with that mistake.
    """

    probe: str
    inputs: dict
    expected: object
    mistakes: Callable[[], list[tuple[str, object]]] = list


def map_tensors(value, function):
    """Apply `function` to every tensor in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [map_tensors(item, function) for item in value]
    return value


def dump_case(case: Case) -> bytes:
    """Write a case in safetensors form: the tensors, and the tree that holds them as one line of metadata."""
    tensors: dict[str, torch.Tensor] = {}

    def name_tensor(tensor):
        name = f"t{len(tensors):03d}"
        tensors[name] = tensor.detach().contiguous().clone()
        return {"$": name}

    tree = {"format": FORMAT, "probe": case.probe}
    tree["inputs"] = map_tensors(_plain(case.inputs), name_tensor)
    tree["expected"] = map_tensors(_plain(case.expected), name_tensor)
    tree["mistakes"] = [[hint, map_tensors(_plain(value), name_tensor)] for hint, value in case.mistakes()]
    return save(tensors, metadata={"case": json.dumps(tree)})


def load_case(path: Path) -> Case:
    """Read a case.

    Raises:
        KitError: the file is missing, or was written by another version of the kit.
    """
    if not path.is_file():
        raise KitError(f"{path}: the reference is missing; instructors make it with: kit reference")
    try:
        with safe_open(path, framework="pt") as stored:
            tree = json.loads(stored.metadata()["case"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:
        raise KitError(f"{path}: not a reference of this kit ({error}); make it anew with: kit reference") from None
    if tree.get("format") != FORMAT:
        raise KitError(f"{path}: written by another version of the kit; make it anew with: kit reference")
    mistakes = [(hint, _restore(value, tensors)) for hint, value in tree["mistakes"]]
    return Case(tree["probe"], _restore(tree["inputs"], tensors), _restore(tree["expected"], tensors), lambda: mistakes)


def _plain(value):
    """Make keys and dtypes fit for JSON."""
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _restore(value, tensors):
    if isinstance(value, dict):
        if set(value) == {"$"}:
            return tensors[value["$"]]
        if set(value) == {"$dtype"}:
            return getattr(torch, value["$dtype"])
        return {key: _restore(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    return value
