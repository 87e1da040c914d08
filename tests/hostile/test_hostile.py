"""No hostile submission gains a point, gets a secret out or disturbs the next one; no honest twin loses a point.

`FCOS_HOSTILE_LEVEL=process` runs the ones that the weakest level stops, at that level.
"""

import os

import pytest

from autograder.isolation import LEVELS
from tools.hostile import FIXTURES, load_fixture, load_fixtures
from tools.verify_security import Run, _check_points, _table_for, figures, verify

LEVEL = os.environ.get("FCOS_HOSTILE_LEVEL", "bubblewrap")
FIXTURE_LIST = load_fixtures()
NAMES = [fixture.name for fixture in FIXTURE_LIST if LEVELS.index(LEVEL) <= LEVELS.index(fixture.level)]
# Rows of the list of threats that are about archives, notebooks and tables of names; they are tested with those.
ELSEWHERE = {35, 36, 37, 42, 43}

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_submission_gains_nothing_and_leaks_nothing(pairs, name):
    run = pairs[name].hostile
    assert (run.gained, run.lost_because, run.leaks, run.problems) == (0, [], [], [])


@pytest.mark.parametrize("name", NAMES)
def test_honest_twin_right_after_it_gets_full_marks(pairs, name):
    run = pairs[name].twin
    assert (run.gained, run.lost_because, run.leaks, run.problems) == (0, [], [], [])


def test_every_threat_has_a_fixture():
    assert {fixture.row for fixture in FIXTURE_LIST} | ELSEWHERE == set(range(1, 44))


def test_figures_count_what_was_found(pairs):
    counts = figures(list(pairs.values()))
    assert counts["hostile_total"] == counts["twins_total"] == len(NAMES)
    assert counts["hostile_points"] == counts["hostile_leaks"] == counts["disturbed"] == 0


def test_leak_is_noticed():
    """With limits alone, root can read the environment of the grader: that must count."""
    if os.geteuid() != 0:
        pytest.skip("without root the kernel hides the grader's environment")
    _, (pair,) = verify("process", 1, {"04-look-at-the-grader"})
    assert any(leak.startswith("secret-") for leak in pair.hostile.leaks)


def test_missing_task_is_noticed():
    fixture = load_fixture(FIXTURES / "01-search-solution.py")
    run = Run()
    _check_points(fixture, "twin", _table_for(fixture), {"tasks": [{"id": "2.3", "points": 6, "parts": []}]}, run)
    assert run.problems == ["not in the results: 2.4"]
    assert run.lost == 6
