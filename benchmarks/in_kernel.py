"""What a graded cell of plain nbgrader calls: the kit's graded tests, in the kernel that runs the student's notebook.

The same tests, public and hidden, the same inputs and the same tolerances as `kit grade`, and the same reference in the
place of other tasks' functions; but no worker, no fork for each probe and no limits: the submission is imported and
called right here. So this costs as little as hidden tests in a notebook can, and a submission could give itself any
points. Not taken away are the library functions that a task forbids, for nothing can be taken back in a kernel.
"""

import functools
import sys
from pathlib import Path

import torch

from autograder.case import map_tensors
from autograder.conversation import Outcome
from autograder.grade import grade
from autograder.worker.child import STATIC_PROBES
from autograder.worker.fakes import FAKES
from autograder.worker.models import offline_models
from autograder.worker.probes import PROBES
from autograder.worker.submission import MODULES, describe, load_submission

THREADS = torch.get_num_threads()


class InKernel:
    """Has the one method of `autograder.sandbox.Worker` that grading calls, and runs every probe in this process."""

    isolation, isolation_warning = "none", ""

    def run(self, request, limits=None, answer=None):
        """Run one probe; returns its `Outcome`."""
        folder, probe = request["folder"], request["probe"]
        if probe in STATIC_PROBES:
            return Outcome("ok", STATIC_PROBES[probe](folder, **request["inputs"]))

        def ask(symbol, args, kwargs):
            return answer(symbol, list(args), kwargs)

        kept_modules, kept_path = {name: sys.modules.get(name) for name in MODULES}, list(sys.path)
        torch.set_num_threads(THREADS)  # as in any other cell; the grader itself computes on one
        torch.manual_seed(0)
        try:
            with offline_models():
                submission = load_submission(folder, request["modules"], request["replaced"], ask, FAKES)
                value = PROBES[probe](submission, **map_tensors(request["inputs"], torch.Tensor.clone))
            return Outcome("ok", map_tensors(value, torch.Tensor.detach))
        except Exception as error:
            return Outcome("error", message=describe(error), error_type=type(error).__name__)
        finally:
            torch.set_num_threads(1)
            sys.path[:] = kept_path
            for name, module in kept_modules.items():
                sys.modules.pop(name, None)
                if module is not None:
                    sys.modules[name] = module


@functools.cache
def grade_once(tasks):
    """Grade the files beside the notebook in one go; returns {task: points}. The later cells only look them up."""
    results = grade(Path.cwd(), tasks=set(tasks) or None, worker=InKernel())
    return {row["id"]: float(row["points"]) for row in results["tasks"]}


def points(task, *tasks):
    """Return the points of a task, as the last value of its cell.

    Args:
        task: of the cell.
        tasks: that are graded in this course; none for all.
    """
    return grade_once(tasks)[task]
