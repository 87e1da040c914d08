"""Takes away, for one probe, the library functions that a task asks students to write themselves."""

import torch
import torchvision

from .submission import SubmissionError

_PLACES = {
    "nms": [
        (torchvision.ops, "nms"),
        (torchvision.ops, "batched_nms"),
        (torchvision.ops.boxes, "nms"),
        (torchvision.ops.boxes, "batched_nms"),
        (torchvision.ops.boxes, "_batched_nms_coordinate_trick"),
        (torchvision.ops.boxes, "_batched_nms_vanilla"),
        (torch.ops.torchvision, "nms"),
    ]
}


def forbid(names: list[str]) -> None:
    """Make each named library function raise, wherever a submission may take it from.

    This is a reminder for honest students; the review flag from the source is what finds the others.
    """
    for name in names:

        def refuse(*args, **kwargs):
            raise SubmissionError(f"this task asks you to write {name} yourself; torchvision's is for comparing with")

        for owner, attribute in _PLACES[name]:
            if hasattr(owner, attribute):
                setattr(owner, attribute, refuse)
