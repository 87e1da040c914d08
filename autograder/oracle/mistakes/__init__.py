"""What known mistakes lead to: each is a small change of the solutions, run on the same inputs as the right answer.

A hint is then given for what the numbers show, never for what the source looks like. Stored cases carry the
predictions, so a student's copy of the kit recognises a mistake without holding a line of the solution.
"""

import tempfile
from pathlib import Path

import torch

from autograder.case import map_tensors
from autograder.compare import Mismatch, assert_matches
from autograder.oracle import SOLUTIONS, solve
from autograder.oracle.patches import apply_patch, read_patches, solution_texts, write_files
from autograder.tasks import load_tasks

# The task of each probe that is not a plain function call.
_TASKS = {"fpn": "1.1", "head": "2.1", "fcos": "3.1", "inference": "4.2"}


def known_mistakes(probe: str, inputs: dict, expected: object) -> list[tuple[str, object]]:
    """Return (hint, prediction) for every known mistake that these inputs can show, predictions in float32.

    Args:
        probe, inputs: of the case.
        expected: the right result; mistakes that lead to the same are left out.
    """
    path = Path(__file__).with_name(f"{_task_of(probe, inputs)}.toml")
    if not path.is_file():
        return []
    sources, found = solution_texts(SOLUTIONS), []
    for patch in read_patches(path, "mistake", load_tasks(), needed=("hint",)):
        with tempfile.TemporaryDirectory() as folder:
            write_files(apply_patch(patch, sources), Path(folder))
            try:
                prediction = _shortened(probe, solve(probe, inputs, Path(folder)))
            except Exception:
                continue  # with these inputs the mistake ends in an exception, and that has a message of its own
        if _says_something(prediction, expected) and not _same(prediction, _shortened(probe, expected)):
            found.append((patch.fields["hint"], prediction))
    return found


def _task_of(probe: str, inputs: dict) -> str:
    if probe != "call":
        return _TASKS.get(probe.partition("_")[0], "")
    owners = (task.id for task in load_tasks().tasks for symbol in task.symbols if symbol.endswith(inputs["function"]))
    return next(owners, "")


def _shortened(probe: str, result):
    """Leave out what no test compares with a mistake, and half of the bytes of what is left."""
    if probe == "fcos_losses":
        result = [{"losses": step["losses"]} for step in result]
    return map_tensors(result, lambda tensor: tensor.float() if tensor.dtype == torch.float64 else tensor)


def _says_something(prediction, expected) -> bool:
    """Whether nothing is NaN, and nothing empty that should not be: many mistakes end there, so it tells none apart."""
    tensors, wanted = [], []
    map_tensors(prediction, tensors.append)
    map_tensors(expected, wanted.append)
    is_empty = any(tensor.numel() == 0 for tensor in tensors) and all(tensor.numel() for tensor in wanted)
    return not is_empty and not any(tensor.isnan().any() for tensor in tensors)


def _same(prediction, expected) -> bool:
    try:
        assert_matches(prediction, expected)
    except Mismatch:
        return False
    return True
