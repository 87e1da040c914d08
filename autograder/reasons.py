"""Says why a probe gave no answer, and which part of that may be shown for a hidden test.

An exception's type, text and place come out of the submission's process, so it can write into them whatever it likes:
the inputs of a hidden test, say. What is shown of those is chosen from lists of ours, never copied.
"""

import builtins
import re
from pathlib import Path

from autograder.conversation import Outcome

MOST_LETTERS = 3000  # of a message
_EXCEPTIONS = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
} | {"UnpicklingError", "LinAlgError", "OutOfMemoryError", "Skipped", "Failed", "SkipTest"}
# The worker's own messages. A submission can forge them, and then they say no more than they could say of any other.
_FILE = r"(?:common|one_stage_detector)\.py"
_NAME = (
    r"(?:DetectorBackboneWithFPN|get_fpn_location_coords|nms|class_spec_nms|FCOSPredictionNetwork|FCOS"
    r"|fcos_(?:match_locations_to_gt|get_deltas_from_locations|apply_deltas_to_locations|make_centerness_targets))"
)
_KNOWN = re.compile(
    rf"{_FILE} is missing"
    rf"|{_NAME} is not defined in {_FILE}(?: and {_FILE})?"
    r"|(?:pred_cls|pred_box|pred_ctr) should hold one convolution, it holds \d{1,2}"
    r"|this task asks you to write nms yourself; torchvision's is for comparing with"
    r"|fcos_detector\.pt does not fit the parameters of "
    r"FCOS\(num_classes=20, fpn_channels=64, stem_channels=\[64, 64\]\): "
    r"(?:some are missing|it holds others|their shapes differ)"
)
_IMPORT = re.compile(rf"({_FILE} cannot be imported): (.*)", re.DOTALL)


def reason(outcome: Outcome) -> tuple[str, str]:
    """Return (problem, detail) of an outcome that is not "ok"; the problem alone is safe for hidden tests."""
    if outcome.status != "error":
        return outcome.message, ""
    if outcome.error_type == "NotImplementedError":
        return "not implemented yet", ""
    if _KNOWN.fullmatch(outcome.message):
        return outcome.message, ""
    if found := _IMPORT.fullmatch(outcome.message):
        return found[1], found[2]
    if outcome.error_type == "FrameError":
        return "it returns something that cannot be graded", outcome.message
    error = outcome.error_type if outcome.error_type in _EXCEPTIONS else "an exception of its own"
    return error, outcome.message.removeprefix(f"{error}: ")


def shortened(text: str) -> str:
    """Return a message cut at a length that somebody reads: a submission chooses how long its keys and errors are."""
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def printable(text: str) -> str:
    """Return text without control characters and marks that turn it round, but with its line ends."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)


def verified_place(where: str | None, folder: Path) -> str:
    """Return "file:line" when a submission has that line, else ""."""
    found = re.fullmatch(r"([A-Za-z_]\w{0,60}\.py):(\d{1,6})", where or "", re.ASCII)
    if not found:
        return ""
    try:
        lines = (folder / found[1]).read_bytes().count(b"\n") + 1
    except OSError:
        return ""
    return where if 1 <= int(found[2]) <= lines else ""
