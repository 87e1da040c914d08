"""Old notebooks and submissions import what they always did, and get the kit's helpers."""

import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import helpers

ROOT = Path(__file__).resolve().parents[2]
LEGACY = ROOT / "helpers" / "legacy"


def run(code: str) -> subprocess.CompletedProcess:
    """Run code in a new interpreter that finds the kit and the old names, as the notebook's set-up arranges it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(LEGACY)]), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


OLD_BEGINNINGS = {
    "star import, names used without an import": """
from a4_helper import *
class Net(nn.Module):
    def forward(self, x: torch.Tensor) -> Tuple[torch.Tensor]:
        return (F.relu(x) * math.sqrt(4) + np.float32(1),)
assert Net()(torch.ones(2))[0].tolist() == [3, 3]
reset_seed(0)
hello_helper()
""",
    "package with functions": """
import eecs598, torch
eecs598.reset_seed(3)
assert eecs598.grad.rel_error(torch.ones(1), torch.ones(1)) == 0
""",
    "names from the package": """
from eecs598 import reset_seed
from eecs598.grad import rel_error, compute_numeric_gradient
from eecs598.utils import reset_seed as again
from eecs598.submit import make_a4_submission
assert reset_seed is again
""",
    "single names": "from a4_helper import VOC2007DetectionTiny, train_detector, inference_with_detector",
}


@pytest.mark.parametrize("case", OLD_BEGINNINGS)
def test_old_import_works(case, monkeypatch):
    monkeypatch.syspath_prepend(str(LEGACY))
    exec(compile(OLD_BEGINNINGS[case], case, "exec"), {"__name__": "old"})


def test_star_import_is_cheap_and_hands_out_every_name():
    result = run(
        "import sys; from a4_helper import *; import a4_helper\n"
        "assert not [n for n in a4_helper.__all__ if n not in globals()]\n"
        "print([m for m in ('matplotlib', 'tensorboard', 'wget', 'helpers.train') if m in sys.modules])\n"
        "print(type(plt.figure()).__name__)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["[]", "Figure"]  # nothing heavy at first, and pyplot is there when it is used


def test_old_visualizer_shows_the_picture(monkeypatch):
    shown = []
    monkeypatch.syspath_prepend(str(LEGACY))
    monkeypatch.setattr("IPython.display.display", shown.append)
    import a4_helper

    a4_helper.detection_visualizer(torch.zeros(3, 32, 32), {0: "cat"}, bbox=[[1, 2, 9, 9, 0]])
    assert [type(figure).__name__ for figure in shown] == ["Figure"]


def test_numeric_gradient_agrees_with_autograd(monkeypatch):
    monkeypatch.syspath_prepend(str(LEGACY))
    from eecs598.grad import compute_numeric_gradient

    x = torch.tensor([[0.3, -1.2], [2.0, 0.7]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    # d/dx sum(w * x^3) = 3 w x^2
    torch.testing.assert_close(
        compute_numeric_gradient(lambda v: v**3, x, weight), 3 * weight * x**2, rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(compute_numeric_gradient(lambda v: v**3, x), 3 * x**2, rtol=1e-6, atol=1e-6)


# (x, y, expected): max |x - y| / max(|x| + |y|)
REL_ERRORS = [
    ([1.0, 2.0], [1.0, 2.0], 0.0),
    ([1.0, 2.0], [1.0, 3.0], 0.2),  # 1 / 5
    ([0.0], [0.0], 0.0),
    ([], [], 0.0),
    ([-4.0], [4.0], 1.0),  # 8 / 8
]


@pytest.mark.parametrize(("x", "y", "expected"), REL_ERRORS)
def test_rel_error(x, y, expected):
    assert helpers.rel_error(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected)


def test_rel_error_refuses_what_would_broadcast():
    with pytest.raises(ValueError, match=r"\(3,\) and \(3, 1\)"):
        helpers.rel_error(torch.zeros(3), torch.zeros(3, 1))


def test_rel_error_of_nan_is_nan():
    assert math.isnan(helpers.rel_error(torch.tensor([float("nan")]), torch.tensor([1.0])))


def test_reset_seed_repeats_all_three_generators():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    helpers.reset_seed(5)
    first = draw()
    helpers.reset_seed(5)
    assert draw() == first
    helpers.reset_seed(6)
    assert all(a != b for a, b in zip(draw(), first))


def test_helpers_import_only_the_module_of_the_name():
    result = run(
        "import sys; from helpers import reset_seed; print([m for m in sys.modules if m.startswith('helpers.')])"
    )
    assert result.stdout.strip() == "['helpers.seed']", result.stderr


def test_every_public_helper_exists_and_is_documented():
    assert all(getattr(helpers, name).__doc__ for name in helpers.__all__)
    assert set(helpers.__all__) <= set(dir(helpers))


def test_unknown_helper_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'train_detectr'"):
        helpers.train_detectr  # noqa: B018
