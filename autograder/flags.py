"""Flags: places in a submission that a person should look at. They change no points."""

from pathlib import Path

from autograder.filenames import shown
from autograder.limits import Limits
from autograder.sandbox import Worker

_TEXTS = {
    "ready-made": "uses {}, which does a task of the assignment",
    "reaching": "uses {}, which the assignment has no need of",
}


def find_flags(worker: Worker, folder: Path, limits: Limits = Limits()) -> list[str]:  # noqa: B008 - frozen
    """Review a submission's source, in the worker and without running it.

    Args:
        worker: does the reading.
        folder: of the submission.
        limits: of the review.

    Returns:
        One line for each flag, "file:line: text".
    """
    request = {"folder": str(folder), "modules": [], "replaced": [], "forbidden": [], "probe": "review", "inputs": {}}
    outcome = worker.run(request, limits)
    if outcome.status != "ok":
        return [f"the source could not be reviewed: {shown(outcome.message)}"]
    if not isinstance(outcome.value, list) or not all(map(_is_flag, outcome.value)):
        return ["the source could not be reviewed"]
    return [f"{shown(file)}:{line}: {_TEXTS[kind].format(shown(name))}" for file, line, kind, name in outcome.value]


def _is_flag(row) -> bool:
    if not isinstance(row, list) or len(row) != 4:
        return False
    file, line, kind, name = row
    return isinstance(file, str) and isinstance(line, int) and isinstance(name, str) and kind in tuple(_TEXTS)
