"""No hostile submission gains a point, gets a secret out or disturbs the next one; no honest twin loses a point.

`FCOS_HOSTILE_LEVEL=process` runs the ones that the weakest level stops, at that level.
"""

import json
import os

import pytest

from tools.cli import main
from tools.hostile import FIXTURES, load_fixture, load_fixtures
from tools.hostile_grading import Pair, Run, _check_points, _table_for
from tools.verify_security import figures, stopped_at, verify

LEVEL = os.environ.get("FCOS_HOSTILE_LEVEL", "bubblewrap")
NAMES = [fixture.name for fixture in stopped_at(LEVEL)]
# Rows of the list of threats that are about archives, notebooks and tables of names; they are tested with those.
ELSEWHERE = {35, 36, 37, 42, 43}

pytestmark = pytest.mark.timeout(900)  # the first test that asks waits for all pairs


@pytest.mark.parametrize("name", NAMES)
def test_hostile_submission_gains_nothing_and_leaks_nothing(pairs, name):
    run = pairs[name].hostile
    assert (run.gained, run.lost_because, run.leaks, run.problems) == (0, [], [], [])


@pytest.mark.parametrize("name", NAMES)
def test_honest_twin_right_after_it_gets_full_marks(pairs, name):
    run = pairs[name].twin
    assert (run.gained, run.lost_because, run.leaks, run.problems) == (0, [], [], [])


def test_every_threat_has_a_fixture():
    assert {fixture.row for fixture in load_fixtures()} | ELSEWHERE == set(range(1, 44))


# What is wrong with the hostile one, with its twin -> the figures that say so.
FAULTS = [
    ({}, {}, {"hostile_points": 0, "hostile_leaks": 0, "disturbed": 0, "twins_full": 1, "passed": True}),
    ({"gained": 2}, {}, {"hostile_points": 2, "passed": False}),
    ({"leaks": ["a", "b"]}, {}, {"hostile_leaks": 2, "passed": False}),
    ({"lost": 3}, {}, {"hostile_problems": 1, "passed": False}),
    ({"problems": ["left a trace"]}, {}, {"hostile_problems": 1, "passed": False}),
    ({}, {"lost": 1}, {"disturbed": 1, "twins_full": 0, "passed": False}),
    ({}, {"problems": ["left a trace"]}, {"disturbed": 1, "twins_full": 1, "passed": False}),
]


@pytest.mark.parametrize(("hostile", "twin", "expected"), FAULTS)
def test_every_fault_reaches_the_figures(hostile, twin, expected):
    counts = figures([Pair("x", "x", Run(**hostile), Run(**twin))])
    assert counts["hostile_total"] == counts["twins_total"] == 1
    assert {name: counts[name] for name in expected} == expected


@pytest.fixture
def graded(monkeypatch):
    """Function (what is wrong with the hostile ones): then `kit verify --security` finds that, and grades nothing."""

    def find(**faults):
        def grade(fixtures, *_):
            return [Pair(fixture.name, fixture.title, Run(**faults), Run()) for fixture in fixtures]

        monkeypatch.setattr("tools.verify_security.verify", grade)

    return find


@pytest.mark.parametrize(("faults", "code"), [({}, 0), ({"leaks": ["a"]}, 1)])
def test_command_writes_figures_and_its_exit_code_says_whether_all_is_well(graded, tmp_path, capsys, faults, code):
    graded(**faults)
    path = tmp_path / "figures.json"
    assert main(["verify", "--security", "--isolation", "process", "--only", "34-", "--json", str(path)]) == code
    written = json.loads(path.read_text())
    assert (written["isolation"], written["hostile_total"], written["passed"]) == ("process", 1, not code)
    assert "hostile_total 1" in capsys.readouterr().out


def test_readme_names_every_submission_that_the_level_stops(graded, monkeypatch):
    graded()
    sections = {}
    monkeypatch.setattr("tools.verify_security.write_section", sections.__setitem__)
    assert main(["verify", "--security", "--isolation", "process", "--readme"]) == 0
    (lines,) = sections.values()
    assert [line for line in lines if "process" in line and "| " in line] == [
        f"| {fixture.row} | {fixture.title} | `process` |" for fixture in stopped_at("process")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "no such"], "no hostile submission has 'no such' in its name"),
        (["--readme", "--only", "17"], "leave --only out"),
        (["--json", "nowhere/figures.json"], "the folder nowhere does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(graded, capsys, arguments, message):
    graded()
    assert main(["verify", "--security", "--isolation", "process", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_leak_is_noticed():
    """With limits alone, root can read the environment of the grader: that must count."""
    if os.geteuid() != 0:
        pytest.skip("without root the kernel hides the grader's environment")
    (pair,) = verify([load_fixture(FIXTURES / "04-look-at-the-grader.py")], "process", 1)
    assert any(leak.startswith("secret-") for leak in pair.hostile.leaks)


def test_missing_task_is_noticed():
    fixture = load_fixture(FIXTURES / "01-search-solution.py")
    run, results = Run(), {"tasks": [{"id": "2.3", "points": 6, "parts": []}]}
    _check_points(fixture, "twin", _table_for(fixture, "twin"), results, run)
    assert run.problems == ["not in the results: 2.4"]
    assert run.lost == 6
