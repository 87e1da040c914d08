"""The canary finds secrets in a text: else no leak would ever be counted."""

import pytest
import torch

from autograder.case import Case
from tools.canary import Canary


@pytest.fixture
def canary():
    found = Canary()
    found.learn(
        Case("call", {"boxes": torch.tensor([[13.771541, 237.41832]])}, torch.tensor([0.123456789])), hidden=True
    )
    found.learn(Case("call", {"boxes": torch.tensor([55.123459])}, torch.tensor([1.0])), hidden=False)
    return found


def test_word_is_found(canary):
    assert canary.found_in(f"ValueError: {canary.word}", "") == [canary.word]


def test_hidden_numbers_are_found_as_a_submission_prints_them(canary):
    text = repr(canary.hidden_inputs[0]["boxes"].tolist())
    assert len(canary.found_in(text, "")) == 2


def test_expected_numbers_are_found(canary):
    assert canary.found_in(f"answer={float(torch.tensor(0.123456789))}", "")


def test_public_and_other_numbers_are_not(canary):
    assert canary.found_in(f"{float(torch.tensor(55.123459))} 3.14159265 expected 237.418, received 0.5", "") == []


def test_solution_lines_are_found_unless_they_are_the_submissions_own(canary):
    line = max(canary._lines, key=len)
    assert canary.found_in(f"x\n    {line}\n", "") == [f"solution line {line!r}"]
    assert canary.found_in(f"x\n    {line}\n", own_code=f"    {line}") == []
