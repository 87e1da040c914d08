"""`kit diff`: whose grade changed by a regrade, and why."""

import copy
import json

import pytest
from synthetic import student, write_results

from tools.cli import main


@pytest.fixture
def regraded(tmp_path, monkeypatch):
    """Two gradings of ann, ben, cat and dan; ben lost a part, cat handed in again, dan left and eve came."""
    monkeypatch.chdir(tmp_path)
    old = [student(name) for name in ("ann", "ben", "cat", "dan")]
    new = [*copy.deepcopy(old[:3]), student("eve", 0.0)]
    task = new[1]["tasks"][1]
    part = task["parts"][0]
    lost = part["points"]
    part |= {"points": 0, "status": "failed", "message": "transposed: \x1b[31m(y, x)\nmore"}
    task["points"] -= lost
    new[1]["total"] -= lost
    new[2] = student("cat", 0.5, run=1)
    new[0]["tasks"][0]["message"] = "another wording is no change"
    write_results(tmp_path / "old", old)
    write_results(tmp_path / "new", new)
    return lost


def test_diff_says_whose_grade_changed_and_why(regraded, tmp_path, capsys):
    assert main(["diff", "old", "new", "--json", "diff.json"]) == 1
    said = capsys.readouterr().out
    assert "ann:" not in said
    assert f"ben: 100 -> {100 - regraded}\n  1.2 " in said
    assert f" {regraded}/{regraded} -> 0/{regraded}: transposed:  [31m(y, x)\n" in said
    assert "cat: 100 -> " in said
    assert "  another submission: cat.zip -> cat.zip\n" in said
    assert "dan: 100 -> none\n  only in the old results\n" in said
    assert "eve: none -> 0\n  only in the new results\n" in said
    assert said.endswith("4 of 5 students changed\n")
    stored = json.loads((tmp_path / "diff.json").read_text())
    assert [one["student"] for one in stored["changes"]] == ["ben", "cat", "dan", "eve"]


def test_diff_backwards_says_what_is_no_longer_wrong(regraded, capsys):
    assert main(["diff", "new", "old"]) == 1
    assert f" 0/{regraded} -> {regraded}/{regraded}: no longer: transposed:" in capsys.readouterr().out


def test_same_grading_has_no_change(regraded, capsys):
    assert main(["diff", "old", "old"]) == 0
    assert capsys.readouterr().out == "0 of 4 students changed\n"


def test_diff_names_what_changed_for_everybody(regraded, tmp_path, capsys):
    others = {"tasks_sha256": "other", "versions": {"torch": "2.5.0"}, "isolation": "process"}
    write_results(tmp_path / "other", [student(name, **others) for name in ("ann", "ben", "cat", "dan")])
    assert main(["diff", "old", "other"]) == 0
    said = capsys.readouterr().out
    assert "everybody: the table of tasks is another one\n" in said
    assert "everybody: torch 2.15.0 -> 2.5.0\n" in said
    assert "everybody: isolation bubblewrap -> process\n" in said


def test_diff_tells_another_map_and_other_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = {"split": "test", "images": 500, "sha256": "0123456789abcdef"}
    before = [student("ann", held_out=images, measures={"mAP": 0.31}), student("ben", held_out=images, measures={})]
    others = images | {"sha256": "fedcba9876543210"}
    after = [
        student("ann", 0.5, held_out=others, measures={"mAP": 0.2875}),
        student("ben", 0.5, held_out=others, measures={"mAP": 0.4}),
    ]
    write_results(tmp_path / "before", before)
    write_results(tmp_path / "after", after)
    assert main(["diff", "before", "after"]) == 1
    said = capsys.readouterr().out
    assert "everybody: mAP measured on 500 images (01234567) -> 500 images (fedcba98)\n" in said
    assert "  mAP 31.00% -> 28.75%\n" in said
    assert "  mAP not measured -> 40.00%\n" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["old", "nowhere"], "nowhere: no such folder"),
        (["old", "new", "--json", "nowhere/x.json"], "does not exist"),
        (["old", "new", "--json", "half/results/000.json"], "000.json: exists"),
        (["old", "half"], "001.json: not a whole JSON file"),
    ],
)
def test_bad_input_is_answered_in_one_line(arguments, reason, regraded, tmp_path, capsys):
    write_results(tmp_path / "half", [student("ann"), student("ben")])
    broken = tmp_path / "half" / "results" / "001.json"
    broken.write_text(broken.read_text()[:500])
    assert main(["diff", *arguments]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1
