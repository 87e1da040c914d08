"""Functions and classes of other tasks are replaced wherever a submission keeps them."""

import sys

import pytest

from autograder.worker.fakes import FAKES, FakeHead
from autograder.worker.submission import load_submission

# Forms of one function, each kept in a table at import.
FORMS = {
    "plain": "def nms(boxes, scores):\n    return 'own'",
    "with defaults": "def nms(boxes, scores, iou_threshold=0.5, *, best=True):\n    return 'own'",
    "decorated": (
        "import functools\n"
        "def logged(function):\n"
        "    @functools.wraps(function)\n"
        "    def wrapper(*args, **kwargs):\n"
        "        return function(*args, **kwargs)\n"
        "    return wrapper\n"
        "@logged\ndef nms(boxes, scores):\n    return 'own'"
    ),
    "a closure over two": (
        "def make(a, b):\n    def nms(boxes, scores):\n        return a + b\n    return nms\nnms = make('o', 'wn')"
    ),
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def run(source, replaced, asked):
        (tmp_path / "common.py").write_text(source)
        return load_submission(str(tmp_path), ["common"], replaced, lambda *call: asked.append(call) or "answer", FAKES)

    return run


@pytest.mark.parametrize("source", FORMS.values(), ids=FORMS)
def test_function_is_replaced_also_where_a_table_keeps_it(load, source):
    asked = []
    submission = load(source + "\nTABLE = {'nms': nms}\n", ["common.nms"], asked)
    assert submission.TABLE["nms"](1, scores=2) == submission.nms(1, scores=2) == "answer"
    assert asked == [("common.nms", (1,), {"scores": 2})] * 2


def test_function_that_is_not_replaced_stays(load):
    assert load(FORMS["decorated"], [], []).nms(1, 2) == "own"


def test_fake_head_has_the_parts_that_the_contract_names():
    head = FakeHead(20, 64, [64, 64])
    for name in ("stem_cls", "stem_box", "pred_cls", "pred_box", "pred_ctr"):
        assert getattr(head, name) is not None
    head.pred_cls.bias.data.fill_(-4.6)
