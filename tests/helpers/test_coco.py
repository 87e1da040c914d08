"""COCO's figures, with either package and with none."""

import sys

import numpy as np
import pytest

from helpers.coco import FIGURES, evaluate_coco
from helpers.evaluation import evaluate_voc

SMALL, MEDIUM, LARGE = [0.0, 0.0, 20.0, 20.0], [100.0, 0.0, 150.0, 50.0], [0.0, 200.0, 200.0, 400.0]
# Moved by a tenth of its width, so that the IoU is 180 / 220 = 0.818: right at 0.50 to 0.80, wrong at 0.85 to 0.95.
SMALL_MOVED = [2.0, 0.0, 22.0, 20.0]


def one_image(*boxes, values):
    return np.array(boxes).reshape(-1, 4), np.zeros(len(boxes), int), np.array(values)


TRUTH = {"a": one_image(SMALL, MEDIUM, LARGE, values=[False] * 3), "b": one_image(SMALL, values=[True])}
PREDICTIONS = {"a": one_image(SMALL_MOVED, MEDIUM, values=[0.9, 0.8]), "b": one_image(SMALL, values=[0.7])}

# package that is hidden -> the other one is used
HIDDEN = {"pycocotools": "faster_coco_eval", "faster_coco_eval": "pycocotools"}


@pytest.fixture
def without(monkeypatch):
    """Make packages look as if they were not installed."""

    def hide(*packages):
        for package in packages:
            for name in [m for m in sys.modules if m == package or m.startswith(package + ".")]:
                monkeypatch.delitem(sys.modules, name)
            monkeypatch.setitem(sys.modules, package, None)

    return hide


@pytest.mark.parametrize("hidden", HIDDEN)
def test_figures_by_hand(hidden, without):
    pytest.importorskip(HIDDEN[hidden])
    without(hidden)
    result = evaluate_coco(PREDICTIONS, TRUTH, num_classes=1)
    assert list(result) == list(FIGURES)
    assert result["AP small"] == pytest.approx(0.7)  # 7 of 10 overlaps
    assert result["AP medium"] == pytest.approx(1)
    assert result["AP large"] == pytest.approx(0)
    # 67 of the 101 recalls 0, 0.01 ... lie at or below 2/3.
    assert result["AP50"] == result["AP75"] == pytest.approx(67 / 101)


def test_ap50_is_the_101_point_mode():
    result = evaluate_coco(PREDICTIONS, TRUTH, num_classes=1)
    assert result["AP50"] == pytest.approx(evaluate_voc(PREDICTIONS, TRUTH, 1, 0.5, "101-point").mean_ap, abs=1e-6)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_no_detection_at_all_and_no_object_of_a_size(hidden, without):
    pytest.importorskip(HIDDEN[hidden])
    without(hidden)
    result = evaluate_coco({}, {"a": one_image(SMALL, values=[False])}, num_classes=1)
    assert result["AP"] == 0
    assert result["AP large"] is None


def test_without_a_package_the_message_says_what_to_install(without):
    without(*HIDDEN)
    with pytest.raises(ImportError, match="pip install faster-coco-eval"):
        evaluate_coco(PREDICTIONS, TRUTH, num_classes=1)
