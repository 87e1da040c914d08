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
from autograder.worker.fakes import FAKES
from autograder.worker.models import offline_models
from autograder.worker.probes import PROBES
from autograder.worker.submission import Submission, load_submission

SOLUTIONS = ROOT / "solutions"
# These probes prepare the predictions of the head, so the solutions, too, run with fakes in place of their networks.
_WITH_FAKES = {"fcos_losses", "fcos_eval", "inference"}


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

    def __call__(self, allowed):
        """Return the function (symbol, args, kwargs) -> value; it raises what the reference raises."""

        def answer(symbol: str, args: list, kwargs: dict):
            if symbol not in allowed:
                raise LookupError(f"{symbol} is not answered while this task is graded")
            function = getattr(self._solutions, symbol.partition(".")[2])
            check_work(symbol, function, args, kwargs)
            with torch.no_grad():
                return function(*args, **kwargs)

        return answer
