"""The probe that runs a submission's whole detector: its own classes, with the weights that were handed in."""

import torch
from torch.nn.functional import pad

from .probes import normalised, probe
from .submission import SubmissionError
from .weights import NAME, load_weights

ARGUMENTS = {"num_classes": 20, "fpn_channels": 64, "stem_channels": [64, 64]}
STRIDE = 32  # of the coarsest level: images are padded to multiples of it


@probe
def detect(submission, images, thresholds, most):
    """Detect the objects of some images (3, h, w) uint8, one by one: [boxes, classes, scores] of the surest `most`.

    Tensors keep the order of bytes that they were trained with: a head may use `view` where another memory format would
    refuse it.
    """
    torch.set_flush_denormal(True)  # tiny activations would make the CPU many times slower
    detector = submission.FCOS(**ARGUMENTS)
    _load(detector, load_weights(submission.folder))
    detector.eval()
    found = []
    with torch.no_grad():
        for image in images:
            _, height, width = image.shape
            image = pad(normalised(image), (0, -width % STRIDE, 0, -height % STRIDE))  # with 0, the mean colour
            found.append(_surest(detector(image[None], **thresholds), most))
    return found


def _load(detector, state) -> None:
    """Put the weights into the detector; what does not fit is said in one of three sentences, not in its own words."""
    own = detector.state_dict()
    try:
        detector.load_state_dict(state)
    except RuntimeError:
        problem = "their shapes differ"
        if set(own) - set(state):
            problem = "some are missing"
        elif set(state) - set(own):
            problem = "it holds others"
        raise SubmissionError(f"{NAME} does not fit the parameters of {_call()}: {problem}") from None


def _call() -> str:
    return f"FCOS({', '.join(f'{name}={value}' for name, value in ARGUMENTS.items())})"


def _surest(outputs, most: int) -> list:
    """Keep the detections with the best scores. What has another form fails here, or where it is checked."""
    outputs = list(outputs)
    scores = outputs[-1]
    if len(scores) > most:
        best = scores.topk(most).indices
        outputs = [values[best] for values in outputs]
    return outputs
