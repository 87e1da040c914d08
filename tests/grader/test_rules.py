"""Rules whose verdict no mutant of a single task shows: made-up answers, and how a problem is put into words."""

import math
import re
from types import SimpleNamespace

import pytest
import torch

from autograder.case import Case
from autograder.compare import Mismatch, Tolerance, assert_matches
from autograder.measure import _checked
from autograder.oracle.all_cases import CASES
from autograder.oracle.mistakes import known_mistakes
from autograder.reasons import MOST_LETTERS, shortened
from autograder.rules import assert_head_values, assert_initial_values, assert_training_falls, granted_seconds
from autograder.session import submission_seed

STEPS = 40
GRADIENTS = {"backbone": 1.0, "pred_net": 1.0}
# The reference falls from 3 to 1 in each of the three losses; without learning they stay at 3.
REFERENCE = torch.linspace(3, 1, STEPS)[:, None].expand(STEPS, 3)
UNTRAINED = torch.full((STEPS, 3), 3.0)
# (losses, gradients, what is said)
TRAININGS = [
    (REFERENCE * 1.5, GRADIENTS, ""),
    (UNTRAINED, GRADIENTS, "does not fall"),
    (10 / torch.arange(1, STEPS + 1)[:, None].expand(STEPS, 3), GRADIENTS, "loss_cls begins at another size"),
    (REFERENCE, {**GRADIENTS, "backbone": 0.0}, "no gradient reaches backbone"),
    (REFERENCE, {**GRADIENTS, "pred_net": float("nan")}, "no gradient reaches pred_net"),
    (REFERENCE * torch.nan, GRADIENTS, "do not stay finite"),
    (REFERENCE[1:], GRADIENTS, "wrong shape"),
]


def _answers(value):
    return SimpleNamespace(run=lambda case: value)


def _training(losses):
    return Case("overfit", {}, {"losses": losses, "first_gradients": GRADIENTS})


@pytest.mark.parametrize(("losses", "gradients", "problem"), TRAININGS)
def test_training_must_be_that_of_the_network(losses, gradients, problem):
    submission = _answers({"losses": losses, "first_gradients": gradients})
    if not problem:
        assert_training_falls(submission, _training(REFERENCE), _training(UNTRAINED))
        return
    with pytest.raises(Mismatch, match=problem):
        assert_training_falls(submission, _training(REFERENCE), _training(UNTRAINED))


def test_missing_convolution_is_named_as_missing():
    case = Case("head_values", {}, {"convolutions": {"stem_cls.0": [8, 4, 3, 3], "stem_cls.1": [8, 8, 3, 3]}})
    found = {"convolutions": {"stem_cls.0": [8, 4, 3, 3]}}
    with pytest.raises(Mismatch, match="convolution 2 of stem_cls is missing: expected 3x3 8->8"):
        assert_head_values(_answers(found), case)


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (torch.tensor(2.0), "^wrong value of the loss: expected 1.5, received 2$"),
        (torch.tensor(float("nan")), "^the loss is not finite: expected 1.5, received nan$"),
        (torch.tensor(2), "^wrong dtype of the loss: expected floats, received int64$"),
    ],
)
def test_one_number_is_not_spoken_of_as_many(received, message):
    with pytest.raises(Mismatch, match=message):
        assert_matches(received, torch.tensor(1.5), "the loss")


# (received, expected) -> the message about them.
MANY = [
    ([1.0, 2, 5], [1.0, 2, 4], "wrong values in boxes: 1 of 3 differ, the worst at (2,): expected 4, received 5"),
    ([1.0, math.nan], [1.0, 2], "values in boxes are not finite: 1 of 2, the first at (1,): expected 2, received nan"),
    ([1.0, 2], [1.0, 2, 3], "wrong shape of boxes: expected (3,), received (2,)"),
    ([1, 2], [1.0, 2], "wrong dtype of boxes: expected floats, received int64"),
    (None, [1.0, 2], "wrong type of boxes (None): expected a tensor of shape (2,)"),
]


@pytest.mark.parametrize(("received", "expected", "message"), MANY)
def test_message_reads_well_whatever_is_one_or_many(received, expected, message):
    received = None if received is None else torch.tensor(received)
    with pytest.raises(Mismatch) as error:
        assert_matches(received, torch.tensor(expected), "boxes")
    assert str(error.value) == message
    assert not re.search(r"\d", error.value.problem)  # it is shown for hidden tests as well


@pytest.mark.parametrize("received", [torch.tensor([0.0, 2.0]), torch.tensor([True, False])])
def test_indices_must_be_integers(received):
    with pytest.raises(Mismatch):
        assert_matches(received, torch.tensor([0, 2]), "the kept indices", Tolerance(0, 1e-6))


def test_empty_answer_gets_no_diagnosis():
    probe, inputs = CASES["detections"][1](torch.Generator().manual_seed(0))
    expected = [torch.ones(3, 4), torch.zeros(3, dtype=torch.int64), torch.ones(3)]
    predictions = [prediction for _, prediction in known_mistakes(probe, inputs, expected)]
    assert predictions
    assert all(len(boxes) for boxes, _, _ in predictions)


def test_biases_that_are_not_numbers_are_not_zero():
    stem = {"mean": 0.0, "std": 0.01, "fan_in": 576, "largest_bias": math.nan}
    case = Case("head_init", {}, {"stems": {"stem_cls.0": {}}, "predictions": {}, "pred_cls_bias": None})
    with pytest.raises(Mismatch, match="the biases of convolution 1 of stem_cls are not 0"):
        assert_initial_values(_answers({"stems": {"stem_cls.0": stem}, "predictions": {}}), case)


def test_time_to_start_cannot_be_bought():
    assert granted_seconds(0.5, 0.3) == 0.5 + 20 * 0.3
    assert granted_seconds(18.0, 0.3) == 3.0 + 20 * 0.3


@pytest.mark.parametrize("scores", [[0.5, 1e308], [-0.1, 0.5]])
def test_scores_of_a_trained_detector_are_shares(scores):
    answer = [torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), torch.tensor(scores, dtype=torch.float64)]
    with pytest.raises(Mismatch, match="scores of detections do not lie between 0 and 1"):
        _checked(answer)


def test_every_file_of_a_submission_changes_its_hidden_inputs(tmp_path):
    seeds = {submission_seed(tmp_path)}
    for name in ("common.py", "utils.py", "fcos_detector.pt", "package/more.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
        seeds.add(submission_seed(tmp_path))
        (tmp_path / name).write_text("x = 1\n")
        seeds.add(submission_seed(tmp_path))
    assert len(seeds) == 9
    assert submission_seed(tmp_path) in seeds


def test_message_is_no_longer_than_somebody_reads():
    assert shortened("x" * MOST_LETTERS) == "x" * MOST_LETTERS
    assert len(shortened("x" * 10**6)) == MOST_LETTERS
