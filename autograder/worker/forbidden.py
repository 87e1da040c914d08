"""Takes away, for one probe, the library functions that a task asks students to write themselves."""

import torch
import torchvision

from .submission import SubmissionError

# Names that a submission may have taken them from, and the operator below them all.
_PLACES = {
    "nms": [
        (torchvision.ops, "nms"),
        (torchvision.ops, "batched_nms"),
        (torchvision.ops.boxes, "nms"),
        (torchvision.ops.boxes, "batched_nms"),
        (torchvision.ops.boxes, "_batched_nms_coordinate_trick"),
        (torchvision.ops.boxes, "_batched_nms_vanilla"),
    ]
}
_OPERATORS = {"nms": ("torchvision", "nms")}
_LIBRARIES = []  # an override lasts as long as its library object


def forbid(names: list[str]) -> None:
    """Make each named library function raise, whatever way a submission takes to it."""
    for name in names:
        refuse = _refusal(name)
        for owner, attribute in _PLACES[name]:
            if hasattr(owner, attribute):
                setattr(owner, attribute, refuse)
        namespace, operator = _OPERATORS[name]
        library = torch.library.Library(namespace, "IMPL")
        library.impl(operator, refuse, "CPU")
        _LIBRARIES.append(library)


def _refusal(name: str):
    def refuse(*args, **kwargs):
        raise SubmissionError(f"this task asks you to write {name} yourself; torchvision's is for comparing with")

    return refuse
