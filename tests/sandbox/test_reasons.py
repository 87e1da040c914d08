"""Of what a submission says about its failure, hidden tests show only what is on our own lists."""

import pytest

from autograder.conversation import Outcome
from autograder.reasons import printable, reason, verified_place
from autograder.session import ProbeFailed

SECRET = "[237.41832, 13.77154]"
OWN = "an exception of its own"
# Exception's type and message, and what may be shown of it for a hidden test.
HIDDEN = [
    ("IndexError", f"IndexError: {SECRET}", "IndexError"),
    ("Skipped", f"Skipped: {SECRET}", "Skipped"),
    (SECRET, SECRET, OWN),
    ("SubmissionError", SECRET, OWN),
    ("FrameError", f"value[{SECRET!r}] is a set", "it returns something that cannot be graded"),
    ("NotImplementedError", f"NotImplementedError: {SECRET}", "not implemented yet"),
    ("SubmissionError", "common.py is missing", "common.py is missing"),
    ("SubmissionError", f"common.py is missing{SECRET}", OWN),
    ("SubmissionError", "nms is not defined in common.py", "nms is not defined in common.py"),
    (
        "SubmissionError",
        "FCOS is not defined in common.py and one_stage_detector.py",
        "FCOS is not defined in common.py and one_stage_detector.py",
    ),
    ("SubmissionError", f"{SECRET} is not defined in common.py", OWN),
    ("SubmissionError", f"common.py cannot be imported: {SECRET}", "common.py cannot be imported"),
    ("ImportTooSlow", "common.py cannot be imported: it takes too long", "common.py cannot be imported"),
    (
        "SubmissionError",
        "pred_cls should hold one convolution, it holds 3",
        "pred_cls should hold one convolution, it holds 3",
    ),
    ("SubmissionError", "pred_cls should hold one convolution, it holds 23741832", OWN),
]


@pytest.mark.parametrize(("error_type", "message", "shown"), HIDDEN)
def test_hidden_tests_show_what_is_on_the_list(error_type, message, shown, tmp_path):
    outcome = Outcome("error", message=message, error_type=error_type, where=f"{SECRET}.py:7")
    assert ProbeFailed(outcome, tmp_path).problem == shown


@pytest.mark.parametrize("status", ["timeout", "memory", "processes", "died", "protocol"])
def test_words_of_ours_are_shown_as_they_are(status):
    assert reason(Outcome(status, message="stopped after 20 s")) == ("stopped after 20 s", "")


def test_public_tests_show_everything(tmp_path):
    (tmp_path / "common.py").write_text("x = 1\ny = 2\n")
    outcome = Outcome("error", message="ValueError: no luck", error_type="ValueError", where="common.py:2")
    assert str(ProbeFailed(outcome, tmp_path)) == "ValueError: no luck (common.py:2)"


def test_text_keeps_what_can_be_seen():
    text = "\x1b[32mpassed\x1b[0m\r\nGünter: 3 × 4 \u202etfel\u2028\x00"
    assert printable(text) == "�[32mpassed�[0m�\nGünter: 3 × 4 �tfel��"


PLACES = {
    "common.py:1": "common.py:1",
    "common.py:3": "common.py:3",
    "common.py:4": "",  # it has three lines
    "common.py:0": "",
    "common.py:١": "",  # a digit elsewhere
    "other.py:1": "",
    "../common.py:1": "",
    "/etc/passwd:1": "",
    "237.py:1": "",
    "common.py:1\n": "",
    "": "",
    None: "",
}


@pytest.mark.parametrize(("where", "shown"), PLACES.items())
def test_place_is_shown_when_the_submission_has_it(tmp_path, where, shown):
    (tmp_path / "common.py").write_text("x = 1\ny = 2\n")
    assert verified_place(where, tmp_path) == shown
