"""The summary: what an instructor opens in a spreadsheet."""

import csv
import json

import pytest
from fake_grader import make_class, run

from autograder.summary import safe_cell

DANGEROUS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "=cmd|' /C calc'!A0"]


@pytest.mark.parametrize("text", DANGEROUS)
def test_cell_that_a_spreadsheet_would_run_is_quoted(text):
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize(
    ("text", "safe"), [("a.zip;=1+1", "a.zip;'=1+1"), ("=1; @x", "'=1;' @x"), ("a;b;-1", "a;b;'-1")]
)
def test_cell_is_safe_where_semicolons_part_cells(text, safe):
    assert safe_cell(text) == safe


@pytest.mark.parametrize("text", ["", "a;b=1", "Doe, Jane", "a=1", "'=1", '"x"', "3-4"])
def test_plain_cell_is_left_alone(text):
    assert safe_cell(text) == text


def test_names_from_outside_stay_in_their_cells(tmp_path):
    names = ["=HYPERLINK(1)", "Doe, Jane", 'quote"s', "new\nline", "<b>html</b>".replace("/", ""), "@x"]
    run(make_class(tmp_path / "class", dict.fromkeys(names, 3)), tmp_path / "out")
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(names)
    for row in rows:
        assert not row["submission"].startswith(("=", "@"))
        assert not row["id"].startswith(("=", "@"))
        assert "\n" not in row["submission"]
        assert row["total"] == row["1.2"] == "3"
    assert {row["submission"] for row in rows} >= {"'=HYPERLINK(1)", "Doe, Jane", 'quote"s', "new\\nline", "'@x"}


def test_figures_are_those_of_the_results(tmp_path):
    folder = make_class(tmp_path / "class", {"a": 6, "b": 3, "c": "refuse", "d": 6, "e": "die"})
    (folder / "grades.csv").write_text("")
    _, summary = run(folder, tmp_path / "out")
    # Totals 6, 3, 0, 6: mean 15 / 4, median (3 + 6) / 2; the last has no result.
    assert (summary["graded"], summary["submissions"], summary["mean"], summary["median"]) == (4, 5, 3.75, 4.5)
    assert summary["tasks"] == [
        {"id": "1.2", "title": "Location coordinates", "max_points": 6, "mean": 3.75, "full": 2}
    ]
    assert summary["isolation"] == {"process": 3}
    assert summary["refused"] == [{"id": "c", "submission": "c", "reason": "c: holds neither file"}]
    assert summary["notes"] == ["grades.csv: not a submission"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary


def test_older_submission_is_told(tmp_path):
    folder = make_class(tmp_path / "class", {"Doe_Jane_111_hw-1": 6, "Doe_Jane_111_hw": 1})
    _, summary = run(folder, tmp_path / "out")
    assert summary["superseded"] == [{"id": "111", "source": "Doe_Jane_111_hw", "counts": "Doe_Jane_111_hw-1"}]
    assert "older submission not graded: Doe_Jane_111_hw" in (tmp_path / "out" / "summary.csv").read_text()
    assert summary["results"][0]["total"] == 6


def test_warnings_and_flags_reach_the_summary(tmp_path):
    _, summary = run(make_class(tmp_path / "class", {"a": 4, "b": 5, "c": 5}), tmp_path / "out")
    assert summary["isolation_warnings"] == ["only a fake"]
    assert [row["remarks"] for row in summary["results"]] == [["to be looked at by a person: 1 flags"], [], []]


def test_class_without_any_result_has_a_summary(tmp_path):
    _, summary = run(make_class(tmp_path / "class", {"a": "die"}), tmp_path / "out")
    assert (summary["graded"], summary["mean"], summary["tasks"]) == (0, None, [])
