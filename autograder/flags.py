"""What a person should look at in a submission, found in the worker without running any of it. It changes no points."""

from pathlib import Path

from autograder.filenames import shown
from autograder.intake import WEIGHTS
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
    outcome = worker.run(_request(folder, "review"), limits)
    if outcome.status != "ok":
        return [f"the source could not be reviewed: {shown(outcome.message)}"]
    if not isinstance(outcome.value, list) or not all(map(_is_flag, outcome.value)):
        return ["the source could not be reviewed"]
    return [f"{shown(file)}:{line}: {_TEXTS[kind].format(shown(name))}" for file, line, kind, name in outcome.value]


def weights_problem(worker: Worker, folder: Path, limits: Limits = Limits()) -> str:  # noqa: B008 - frozen
    """Let the worker look at a submission's weights, if it has some; nobody else opens them.

    Args:
        worker: does the looking.
        folder: of the submission.
        limits: of the look.

    Returns:
        Why they are no weights that can be used, or "".
    """
    if not (folder / WEIGHTS).is_file():
        return ""
    outcome = worker.run(_request(folder, "weights"), limits)
    if outcome.status == "ok":
        return ""
    return outcome.message if outcome.message.startswith(f"{WEIGHTS} ") else f"{WEIGHTS}: {outcome.message}"


def _request(folder: Path, probe: str) -> dict:
    return {"folder": str(folder), "modules": [], "replaced": [], "forbidden": [], "probe": probe, "inputs": {}}


def _is_flag(row) -> bool:
    if not isinstance(row, list) or len(row) != 4:
        return False
    file, line, kind, name = row
    return isinstance(file, str) and isinstance(line, int) and isinstance(name, str) and kind in tuple(_TEXTS)
