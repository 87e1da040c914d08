"""No hostile submission gains a point, gets a secret out or disturbs the next one; no honest twin loses a point.

`FCOS_HOSTILE_LEVEL=process` runs the ones that the weakest level stops, at that level.
"""

import os

import pytest

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
