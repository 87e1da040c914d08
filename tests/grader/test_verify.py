"""`kit verify` at the size of every test run: a fixed sample of mutants and variants, without training."""

import json

import pytest

from tools.cli import main
from tools.specimens import read_mutants

TASKS = {mutant.task for mutant in read_mutants()}
WRONG_CALLS = [
    (["--readme", "--quick"], "leave --quick, --only and --own out"),
    (["--only", "no such name"], "no mutant or variant has 'no such name' in its name"),
    (["--repeat", "1"], "it needs at least 2"),
    (["--quick", "--also", "nowhere.json"], "not the figures of `kit verify --json`"),
    (["--quick", "--json", "nowhere/figures.json"], "the folder nowhere does not exist"),
]


@pytest.mark.timeout(900)
def test_sample_of_mutants_and_variants_meets_the_requirements(tmp_path):
    path = tmp_path / "figures.json"
    assert main(["verify", "--quick", "--jobs", "2", "--json", str(path)]) == 0
    figures = json.loads(path.read_text())
    assert {name.partition("/")[0] for name in figures["matrix"]} == TASKS
    assert figures["mutants_killed"] == figures["mutants_own_task_only"] == figures["mutants_total"] >= 25
    assert figures["variants_full"] == figures["variants_total"] >= 5
    # Correct results and mistakes lie apart; a test that compares numbers without room says why.
    assert all(row["room"] or row["why_not"] for row in figures["tolerances"])


@pytest.mark.parametrize(("arguments", "message"), WRONG_CALLS)
def test_wrong_call_is_named(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *arguments]) == 2
    assert message in capsys.readouterr().err
