"""The part of the trusted side that knows the answers: it runs probes on the solutions, in this process, in float64.

Neither this package nor the solutions are ever sent to a worker or to students.
"""

import functools
import sys
from pathlib import Path

import torch

from autograder.case import Case, map_tensors
from autograder.oracle.budget import check_work
from autograder.tasks import ROOT
from autograder.worker.fakes import FAKES, FakeHead
from autograder.worker.models import offline_models
from autograder.worker.probes import PROBES
from autograder.worker.submission import Submission, load_submission

SOLUTIONS = ROOT / "solutions"
# These probes prepare the predictions of the head, so the solutions, too, run with fakes in place of their networks.
_WITH_FAKES = {"fcos_losses", "fcos_eval", "inference"}
_DETECTOR = "one_stage_detector.FCOS"


def load_solutions(with_fakes: bool = False, folder: Path = SOLUTIONS) -> Submission:
    """Import the solutions, or a changed copy of them, afresh and without a trace in this process's modules."""
    names = ("common", "one_stage_detector")
    kept_modules, kept_path = {name: sys.modules.get(name) for name in names}, list(sys.path)
    try:
        return load_submission(str(folder), list(names), list(FAKES) if with_fakes else [], None, FAKES)
    finally:
        sys.path[:] = kept_path
        for name, module in kept_modules.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def solve(probe: str, inputs: dict, folder: Path = SOLUTIONS) -> object:
    """Return what a probe gives on the solutions, with every floating-point input in float64."""
    submission = load_solutions(probe in _WITH_FAKES, folder)
    with offline_models(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return map_tensors(PROBES[probe](submission, **_in_float64(inputs)), torch.Tensor.detach)


def make_case(probe: str, inputs: dict) -> Case:
    """Return the case for a probe and its inputs, with the expected result and the known mistakes."""
    from autograder.oracle.mistakes import known_mistakes

    expected = solve(probe, inputs)
    return Case(probe, inputs, expected, functools.partial(known_mistakes, probe, inputs, expected))


def _in_float64(value):
    return map_tensors(value, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor.clone())


class Upstream:
    """Answers calls of functions that belong to other tasks: `Upstream()(symbols)` allows just those symbols."""

    def __init__(self):
        self._solutions = load_solutions()

    def __call__(self, allowed, training: bool = False):
        """Return the function (symbol, args, kwargs) -> value; it raises what the reference raises.

        Args:
            allowed: symbols that belong to other tasks.
            training: whether a detector is trained: only then are the losses of `FCOS` answered, as they hold the
                answers of the tasks that they build on.
        """
        losses = Losses() if training else None

        def answer(symbol: str, args: list, kwargs: dict):
            if symbol not in allowed or (symbol == _DETECTOR and losses is None):
                raise LookupError(f"{symbol} is not answered while this task is graded")
            function = losses if symbol == _DETECTOR else getattr(self._solutions, symbol.partition(".")[2])
            check_work(symbol, function, args, kwargs)
            with torch.no_grad():
                return function(*args, **kwargs)

        return answer


class Losses:
    """The losses of the solutions' detector, and their gradients, for predictions that come from elsewhere."""

    def __init__(self):
        self._detector = None  # made at the first call; its normaliser lives as long as the training

    def __call__(self, images: torch.Tensor, gt_boxes: torch.Tensor, predictions: list) -> dict:
        """Compute one step.

        Args:
            images: (B, 3, H, W).
            gt_boxes: (B, M, 5).
            predictions: [class logits, deltas, centerness logits], dicts of (B, L, .).

        Returns:
            {"losses": [three scalars], "gradients": three dicts like the predictions}; the gradient of each loss is
            taken with respect to its own predictions, as it depends on no others.
        """
        leaves = [{level: value.detach().requires_grad_() for level, value in kind.items()} for kind in predictions]
        if self._detector is None:
            classes = leaves[0]["p3"].shape[-1]
            self._detector = load_solutions(with_fakes=True).FCOS(classes, fpn_channels=8, stem_channels=[8])
        flat = [tensor for kind in leaves for tensor in kind.values()]
        with torch.enable_grad():
            FakeHead.script = [leaves]
            losses = self._detector.train()(images, gt_boxes)
            FakeHead.script = ()
            gradients = iter(torch.autograd.grad(sum(losses.values()), flat))
        return {
            "losses": [losses[name].detach() for name in ("loss_cls", "loss_box", "loss_ctr")],
            "gradients": [{level: next(gradients) for level in kind} for kind in leaves],
        }
