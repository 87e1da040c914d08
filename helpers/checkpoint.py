"""A training run in one file: written so that a crash at any moment leaves a whole one behind."""

import os
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers.leftovers import remove_leftovers


def save_atomic(content: dict, path: str | Path) -> None:
    """Write a checkpoint beside its final place and move it there in one step.

    Args:
        content: tensors, numbers, strings, lists and dicts, nothing else: it is read back with `weights_only=True`.
        path: the file; its folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, f".{path.name}.*.part")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU.

    Args:
        path: what `save_atomic` wrote.

    Returns:
        The content.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is cut off or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names a dozen reasons, from a bad zip to a refused pickle
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{path} is not a checkpoint that can be read ({reason}): put a copy back if you have one, or delete it to "
            "start anew"
        ) from error


def random_state() -> dict:
    """The state of every global random generator, in plain types.

    Returns:
        A dict for `restore_random_state`.
    """
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict) -> None:
    """Put every global random generator back to where it was.

    Args:
        state: from `random_state`; CUDA's part is left out on a machine with another number of GPUs.
    """
    version, keys, rest = state["python"]
    random.setstate((version, tuple(keys), rest))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def loose_numbers(module: nn.Module) -> dict:
    """The numbers that a module keeps as plain attributes, which its `state_dict` does not know.

    FCOS divides its losses by a moving average, `_normalizer`; a run that resumed without it would differ.

    Args:
        module: a detector.

    Returns:
        Attribute -> number or tensor (a copy).
    """
    numbers = {}
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            numbers[name] = value.detach().cpu().clone()
        elif isinstance(value, np.number):
            numbers[name] = value.item()
        elif isinstance(value, (int, float)) and name != "training":
            numbers[name] = value
    return numbers


def restore_loose_numbers(module: nn.Module, numbers: dict, device: str | torch.device) -> None:
    """Set what `loose_numbers` returned.

    Args:
        module: a detector.
        numbers: attribute -> number or tensor.
        device: where tensors go.
    """
    for name, value in numbers.items():
        setattr(module, name, value.to(device) if isinstance(value, torch.Tensor) else value)
