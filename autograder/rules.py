"""Assertions that public and hidden tests share: one rule of the assignment each."""

import math

import torch

from autograder.compare import Mismatch, Mistakes, Tolerance, assert_matches

# Convolutions over some thousand products in float32.
NETWORK = Tolerance(relative=1e-3, absolute=1e-4)
COORDINATES = Tolerance(relative=1e-6, absolute=1e-4)
SCORES = Tolerance(relative=1e-4, absolute=1e-4)
BOXES = Tolerance(relative=1e-4, absolute=1e-2)
EXACT = Tolerance(relative=0, absolute=1e-6)
LAST_PIXEL = Tolerance(relative=0, absolute=1.01, why_not="the last pixel is W or W - 1, and both are right")
LOSSES = ("loss_cls", "loss_box", "loss_ctr")


def seen_in(mistakes: Mistakes, *path) -> Mistakes:
    """Return known mistakes as they show in one part of a result."""

    def views():
        for hint, value in mistakes():
            try:
                for key in path:
                    value = value[key]
            except (KeyError, IndexError):
                continue
            yield hint, value

    return views


def assert_shapes(received, expected, what: str, mistakes: Mistakes = tuple) -> None:
    """Require the same keys and shapes, whatever the values are."""
    if isinstance(expected, dict):
        if not isinstance(received, dict) or set(received) != set(expected):
            keys = ", ".join(map(str, received)) if isinstance(received, dict) else f"a {type(received).__name__}"
            raise Mismatch(f"wrong keys in {what}", f"expected {', '.join(expected)}, received {keys}")
        for key in expected:
            assert_shapes(received[key], expected[key], f"{what}[{key!r}]", seen_in(mistakes, key))
    elif not isinstance(received, torch.Tensor):
        wanted = f"expected a tensor of shape {tuple(expected.shape)}"
        raise Mismatch(f"wrong type of {what} ({type(received).__name__})", wanted)
    elif received.shape != expected.shape:
        hints = (hint for hint, value in mistakes() if getattr(value, "shape", None) == received.shape)
        raise Mismatch(
            f"wrong shape of {what}",
            f"expected {tuple(expected.shape)}, received {tuple(received.shape)}",
            next(hints, ""),
        )


def assert_pyramid_values(submission, case) -> None:
    """Require the canonical pyramid: right convolutions, and right values under given weights."""
    result = submission.run(case)
    # Biases are optional (batch norm replaces them), names are free; kernel sizes and channels are not.
    if sorted(result["convolutions"]) != sorted(case.expected["convolutions"]):
        wanted = ", ".join(map(_convolution, case.expected["convolutions"]))
        found = ", ".join(map(_convolution, result["convolutions"])) or "none"
        raise Mismatch("the pyramid has the wrong convolutions", f"expected {wanted}; received {found}")
    mistakes = seen_in(case.mistakes, "outputs")
    assert_matches(result["outputs"], case.expected["outputs"], "the pyramid", NETWORK, mistakes)


def _convolution(shape) -> str:
    out_channels, in_channels, *kernel = shape
    return f"{'x'.join(map(str, kernel))} {in_channels}->{out_channels}"


def _named(convolution: str) -> str:
    """Say in words which convolution "stem_cls.1" is; its index in the stem depends on what stands between."""
    stem, _, number = convolution.partition(".")
    return f"convolution {int(number) + 1} of {stem}" if number else stem


def _missing(convolution: str) -> str:
    return f"{_named(convolution)} is missing"


def assert_head_values(submission, case) -> None:
    """Require the head's three predictions under given weights."""
    result = submission.run(case)
    for name, shape in case.expected["convolutions"].items():
        found = result["convolutions"].get(name)
        if found != shape:
            if found is None:
                raise Mismatch(_missing(name), f"expected {_convolution(shape)}")
            wrong = f"expected {_convolution(shape)}, received {_convolution(found)}"
            raise Mismatch(f"{_named(name)} is the wrong convolution", wrong)
    surplus = set(result["convolutions"]) - set(case.expected["convolutions"])
    if surplus:
        raise Mismatch("the stems have too many convolutions", ", ".join(map(_named, sorted(surplus))))
    mistakes = seen_in(case.mistakes, "outputs")
    what = "the head's output (class, box, centerness)"
    assert_matches(result["outputs"], case.expected["outputs"], what, NETWORK, mistakes)


def assert_initial_values(submission, case, stem_std: float = 0.01) -> None:
    """Require N(0, 0.01) weights and zero biases in the stems, and -log(99) as the bias of `pred_cls`.

    Of the prediction layers' own weights little is asked: the instruction is about the stems.
    """
    result = submission.run(case)
    absent = [name for name in case.expected["stems"] if name not in result["stems"]]
    if absent:
        raise Mismatch(_missing(absent[0]))
    for name, stem in result["stems"].items():
        # Of 64 * 64 * 9 = 36864 draws the standard deviation is known to 0.4 %, the mean to 0.5 % of it.
        if not (0.95 * stem_std < stem["std"] < 1.05 * stem_std and abs(stem["mean"]) < 0.05 * stem_std):
            pytorch_std = 1 / math.sqrt(3 * stem["fan_in"])  # uniform within 1 / sqrt(fan in)
            hint = ""
            if 0.95 * pytorch_std < stem["std"] < 1.05 * pytorch_std:
                hint = "That is how PyTorch initialises a convolution by itself: the weights were not drawn anew"
            elif 0.95 * stem_std**0.5 < stem["std"] < 1.05 * stem_std**0.5:
                hint = "0.01 is the standard deviation; here it is the variance"
            found = f"their mean is {stem['mean']:.2g}, their standard deviation {stem['std']:.2g}"
            raise Mismatch(f"the weights of {_named(name)} are not drawn from N(0, 0.01)", found, hint)
        if not stem["largest_bias"] <= 1e-6:  # written so that NaN does not pass
            raise Mismatch(f"the biases of {_named(name)} are not 0", f"the largest is {stem['largest_bias']:.2g}")
    for name, prediction in result["predictions"].items():
        if not prediction["std"] > 0:
            raise Mismatch(f"the weights of {name} are all the same")
        # Both 0 and what PyTorch draws by itself, at most 1 / sqrt(fan in), are small.
        limit = 1.001 / math.sqrt(prediction["fan_in"])
        if name != "pred_cls" and not prediction["largest_bias"] <= limit:
            found = f"the largest is {prediction['largest_bias']:.3g}"
            raise Mismatch(f"the biases of {name} are not 0", found, "Only pred_cls starts from -log(99)")
    bias, expected = result["pred_cls_bias"], case.expected["pred_cls_bias"]
    if bias is None:
        raise Mismatch("pred_cls has no bias")
    mistakes = seen_in(case.mistakes, "pred_cls_bias")
    assert_matches(bias, expected, "pred_cls.bias", Tolerance(1e-3, 1e-4), mistakes)


def assert_call(submission, case, what: str, tolerance: Tolerance = Tolerance()) -> None:  # noqa: B008 - frozen
    """Require the right result of a function."""
    assert_matches(submission.run(case), case.expected, what, tolerance, case.mistakes)


def assert_loss(submission, case, name: str) -> None:
    """Require one of the three losses, at every step of the case."""
    received = submission.run(case)
    for i, (got, wanted) in enumerate(zip(received, case.expected, strict=True)):
        losses = got["losses"]
        if set(losses) != set(LOSSES):
            found = ", ".join(map(str, losses))
            raise Mismatch("the losses have the wrong keys", f"expected {', '.join(LOSSES)}, received {found}")
        loss = losses[name]
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            loss = loss.reshape(())
        mistakes = seen_in(case.mistakes, i, "losses", name)
        assert_matches(loss, wanted["losses"][name], name, Tolerance(2e-5, 2e-7), mistakes)


# Vectorised NMS in plain PyTorch takes 0.7 to 2 times the reference, two loops over lists of numbers about 8 times, two
# loops over elements of tensors some hundred times.
SPEED_FACTOR = 20
MOST_START_SECONDS = 3.0


def granted_seconds(start: float, reference: float) -> float:
    """Return how long a function may take that has to be fast.

    Args:
        start: what a probe took that had next to nothing to do; the submission can take its time there on purpose, so
            it counts up to a limit.
        reference: what the reference takes for the same.
    """
    return min(start, MOST_START_SECONDS) + SPEED_FACTOR * reference


def sorted_detections(result):
    """Bring (boxes, classes, scores) into the order of the scores, which a submission need not keep."""
    if not isinstance(result, list) or len(result) != 3:
        raise Mismatch("inference does not return boxes, classes and scores")
    boxes, classes, scores = result
    for value, what in ((boxes, "boxes"), (classes, "classes"), (scores, "scores")):
        if not isinstance(value, torch.Tensor):
            raise Mismatch(f"wrong type of {what} ({type(value).__name__})", "expected a tensor")
    if boxes.dim() != 2 or boxes.shape[1:] != (4,) or classes.dim() != 1 or scores.dim() != 1:
        raise Mismatch(
            "the detections have the wrong shapes",
            "expected (N, 4), (N,), (N,), received " + ", ".join(str(tuple(value.shape)) for value in result),
        )
    if not len(boxes) == len(classes) == len(scores):
        raise Mismatch("boxes, classes and scores have different lengths")
    order = scores.double().argsort(descending=True, stable=True)
    return boxes[order], classes[order].double(), scores[order]


def assert_detections(submission, case, *parts: str, boxes: Tolerance = BOXES) -> None:
    """Require some parts of the detections: "boxes", "classes", "scores".

    Args:
        boxes: tolerance of the coordinates.
    """
    tolerances = {"boxes": boxes, "classes": EXACT, "scores": SCORES}
    names = list(tolerances)
    received, expected = sorted_detections(submission.run(case)), sorted_detections(case.expected)
    for part in parts:
        i = names.index(part)
        mistakes = lambda i=i: [(hint, sorted_detections(value)[i]) for hint, value in case.mistakes()]  # noqa: E731
        assert_matches(received[i], expected[i], part, tolerances[part], mistakes)


def assert_inside(submission, case) -> None:
    """Require that every box lies inside the image: x from 0 to the width, y from 0 to the height."""
    boxes, _, _ = sorted_detections(submission.run(case))
    height, width = case.inputs["images"].shape[-2:]
    limits = torch.tensor([width, height, width, height]) + _ROUNDING
    if (boxes < -_ROUNDING).any() or (boxes > limits).any():
        raise Mismatch("boxes reach over the image")


_ROUNDING = 1e-3  # pixels


def assert_networks(submission, case) -> None:
    """Require that `FCOS` builds backbone and head from its own arguments."""
    built, expected = submission.run(case)["built_with"], case.expected["built_with"]
    for wanted in expected:
        part = "the head" if "stem_channels" in wanted else "the backbone"
        found = next((entry for entry in built if set(entry) == set(wanted)), None)
        if found is None:
            raise Mismatch(f"FCOS holds no part that is {part} of the assignment")
        for name, value in wanted.items():
            if found[name] != value:
                raise Mismatch(f"{part} is built with the wrong {name}", f"expected {value}, received {found[name]}")


def assert_training_falls(submission, case, untrained) -> None:
    """Require that training brings the loss about as far down as the reference's.

    The moving normaliser makes every loss rise first, so it is compared with the loss of the same steps without
    learning, which the normaliser raises as much. What falls must be the loss of this network: it begins near the
    reference's, since a fresh head says nearly the same everywhere, and its gradients reach backbone and head.

    Args:
        case: the training; expected holds the reference's losses, (steps, 3).
        untrained: the same with a learning rate of 0.
    """
    result = submission.run(case)
    losses, expected = result["losses"], case.expected["losses"]
    assert_shapes(losses, expected, "the losses of all steps")
    if not losses.isfinite().all():
        raise Mismatch("the losses do not stay finite")
    for name in ("backbone", "pred_net"):
        if not result["first_gradients"][name] > 0:
            raise Mismatch(f"no gradient reaches {name}")
    for name, first, wanted in zip(LOSSES, losses[0].tolist(), expected[0].tolist(), strict=True):
        if not wanted / _FIRST_FACTOR < first < wanted * _FIRST_FACTOR:
            raise Mismatch(f"{name} begins at another size", f"expected about {wanted:.2g}, received {first:.2g}")
    received, reference, without = (_end(values) for values in (losses, expected, untrained.expected["losses"]))
    share = (without - received) / (without - reference)
    if share < _LEAST_SHARE:
        raise Mismatch(
            "the loss does not fall as it should",
            f"after {len(losses)} steps it has come {share:.0%} of the way that the reference's has",
        )


_FIRST_FACTOR = 2  # between the first losses of two right networks: they are drawn at random
_LEAST_SHARE = 0.5  # of what the reference learns in the same steps


def _end(losses: torch.Tensor, window: int = 20) -> float:
    """The smoothed sum of the three losses at the end."""
    return float(losses.double().sum(dim=1)[-window:].mean())
