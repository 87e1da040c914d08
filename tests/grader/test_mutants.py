"""Mutants: they fit the solutions, get their diagnosis, and are named when they are written wrongly.

Every mutant is graded by `kit verify`, a sample by `test_verify`; here all of them are applied.
"""

import pytest

from autograder.errors import KitError
from autograder.oracle.mistakes import known_mistakes
from autograder.oracle.patches import read_patches
from autograder.tasks import ROOT, load_tasks
from tools.cli import main
from tools.grading_pool import grade_specimen
from tools.specimens import read_mutants

MUTANTS = {mutant.name: mutant for mutant in read_mutants()}
# Parts that only they can be told from: an answer by request must not hide them.
TRAINED = ["1.1/no-top-down", "2.1/view-without-permute", "3.1/boxes-detached"]
# (text of the file, what is said, with the line)
HEAD = 'task = "2.2"\n[[mutant]]\nname = "a"\nwhy = "b"\n'
WRONG_FILES = [
    ('task = "9.9"\n', r"x.toml:1: no task '9.9' in the table"),
    (HEAD.replace('why = "b"\n', ""), r"x.toml:2: missing why"),
    (f'{HEAD}find = "no such text"\nreplace = ""\n', r"x.toml:2: its text is 0 times"),
    ("\n" + f'{HEAD}find = "gt_boxes"\nreplace = ""\n', r"x.toml:3: its text is \d+ times"),
    (f'{HEAD}find = "dim=-1) / stride  "\nreplace = "("\n', r"x.toml:2: makes one_stage_detector.py invalid"),
    (f'{HEAD}find = " / stride  "\nreplace = " / stride  "\n', r"x.toml:2: changes nothing"),
    (HEAD, r"x.toml:2: an edit has find and replace"),
    (f'{HEAD}define = "def other(): pass"\n', r"x.toml:2: one_stage_detector.py holds 0 of other"),
    (f'{HEAD}inside = "Nothing"\ndefine = "def f(): pass"\n', r"x.toml:2: .* has no class Nothing"),
    (f'{HEAD}file = "other.py"\nfind = "a"\nreplace = "b"\n', r"x.toml:2: the solutions have no file other.py"),
    ('[[mutant]]\nname = "a"\nwhy = "b"\nfile = "x.py"\ncontent = ""\n', r"x.toml:1: .* does not say which task"),
    ('[[mutnat]]\nname = "a"\n', r"x.toml:1: unknown key mutnat"),
    ("name = \n", r"x.toml: .*line 1"),
]


def test_there_are_enough_mutants_of_every_task():
    assert len(MUTANTS) >= 80
    for task in load_tasks().tasks:
        if task.symbols:
            assert sum(mutant.task == task.id for mutant in MUTANTS.values()) >= 8, task.id


@pytest.mark.parametrize(("text", "message"), WRONG_FILES)
def test_wrong_mutant_is_named_with_file_and_line(text, message, tmp_path):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(KitError, match=message):
        read_mutants(tmp_path)


def test_wrong_mutant_ends_the_command_with_code_2(tmp_path, monkeypatch, capsys):
    (tmp_path / "x.toml").write_text('task = "2.2"\n[[mutant]]\nname = "a"\n')
    monkeypatch.setattr("tools.verify.read_mutants", lambda: read_mutants(tmp_path))
    assert main(["verify", "--quick"]) == 2
    assert "x.toml:2: missing why" in capsys.readouterr().err


@pytest.mark.parametrize("name", TRAINED)
def test_mutant_of_a_trained_part_is_not_charged_again_by_the_training(name, worker):
    graded = grade_specimen(MUTANTS[name], {"3.2"}, worker)
    assert graded.lost == {}


def test_public_test_gives_the_diagnosis(worker):
    chosen = [mutant for mutant in MUTANTS.values() if mutant.task == "2.3" and mutant.hint]
    graded = [grade_specimen(mutant, {"2.3"}, worker) for mutant in chosen]
    missed = [one.specimen.name for one in graded if one.public_messages and not one.diagnosed]
    assert missed == []


def test_every_known_mistake_applies_and_has_a_text_of_its_own():
    for path in sorted((ROOT / "autograder" / "oracle" / "mistakes").glob("*.toml")):
        mistakes = read_patches(path, "mistake", load_tasks(), needed=("hint",))
        assert len(mistakes) >= 8
        assert all(len(mistake.fields["hint"]) > 20 for mistake in mistakes)


def test_known_mistakes_predict_what_a_mistake_returns():
    import torch

    deltas = torch.tensor([[1.0, 4.0, 4.0, 1.0]])
    inputs = {"function": "fcos_make_centerness_targets", "arguments": {"deltas": deltas}}
    # Equation 3 gives sqrt(1/4 * 1/4) = 0.25; without the root it is 0.0625.
    predictions = dict(known_mistakes("call", inputs, torch.tensor([0.25])))
    assert predictions["The square root of equation 3 is missing"].tolist() == pytest.approx([0.0625])
    # There is no background here, so its mistakes are not seen.
    assert not any("Background" in hint for hint in predictions)
