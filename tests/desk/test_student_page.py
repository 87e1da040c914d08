"""docs/student.md: the messages that it explains are those that a check gives."""

import re
from dataclasses import replace

import pytest

from autograder.feedback import Check
from autograder.tasks import FILES, ROOT, load_tasks

TEXT = (ROOT / "docs" / "student.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
# (file, text, replacement, tasks whose checks then speak); together they give every message of the page.
MISTAKES = [
    ("one_stage_detector.py", "(deltas.clamp(min=0) * stride)", "(deltas * stride)", ["2.3"]),
    ("one_stage_detector.py", "left, top, right, bottom = (deltas", "raise NotImplementedError; x = (deltas", ["2.3"]),
    ("one_stage_detector.py", ".clamp(min=0).sqrt()", ".clamp(min=0).sqroot()", ["2.4"]),
    ("one_stage_detector.py", ".clamp(min=0).sqrt()", ".mul(-1).sqrt()", ["2.4"]),
    ("one_stage_detector.py", "x2 - x, y2 - y], dim=-1) / stride", "x2], dim=-1)[..., :2]", ["2.2"]),
    ("common.py", "candidates = rest[~(iou > iou_threshold)]", "candidates = candidates", ["4.1"]),
    ("common.py", "    areas = (b", "    from torchvision.ops import nms\n    return nms(boxes, scores)\n    (b",
     ["4.1"]),
]  # fmt: skip


def words(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the checks say about each mistake, and about two mistakes at once, in one text."""
    table = load_tasks()
    patient = [replace(task, seconds=2) if task.id == "4.1" else task for task in table.tasks]
    patch = pytest.MonkeyPatch()
    patch.setattr("autograder.feedback.load_tasks", lambda: replace(table, tasks=tuple(patient)))
    folder, check, cards = tmp_path_factory.mktemp("submission"), Check(), []
    solved = {name: (ROOT / "solutions" / name).read_text() for name in FILES}

    def run(changes, tasks):
        files = dict(solved)
        for name, old, new in changes:
            assert old in files[name], old
            files[name] = files[name].replace(old, new)
        for name, text in files.items():
            (folder / name).write_text(text)
        cards.append(words(str(check(*tasks))))

    for name, text in solved.items():
        (folder / name).write_text(text)
    check.use(folder)
    for name, old, new, tasks in MISTAKES:
        run([(name, old, new)], tasks)
    run([change[:3] for change in (MISTAKES[2], MISTAKES[4])], ["3.1"])
    if check._worker is not None:
        check._worker.close()
    patch.undo()
    return "\n".join(cards)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: words(message)[:30])
def test_message_of_the_page_is_what_a_check_says(message, said):
    assert re.search(".*?".join(map(re.escape, words(message).replace("20 s", "2 s").split("…"))), said), said


def test_page_has_the_messages_that_students_meet():
    assert len(MESSAGES) >= 8
