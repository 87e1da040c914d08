"""Honest variants get all points: a sample here, every one of them in `kit verify`."""

import pytest

from autograder.errors import KitError
from tools.grading_pool import grade_specimen
from tools.specimens import read_variants

VARIANTS = {variant.name: variant for variant in read_variants()}
# How calls of other tasks' functions are written: variant -> tasks whose calls it changes.
CALLS = {
    "keywords": {"3.1", "4.2"},
    "imports-the-module": {"3.1", "4.2"},
    "imports-everything": {"4.2"},
    "references-kept": {"3.1", "4.2"},
    "decorated": {"2.2", "2.3", "2.4", "3.1"},
    "inference-all-levels-first": {"4.2"},
}
# Where a test was once too strict: variant -> task.
HARD = {
    "batch-norm-in-pyramid": "1.1",
    "lazy-convolutions": "1.1",
    "dropout-in-pyramid": "1.1",
    "locations-old-meshgrid": "1.2",
    "stems-only-initialised": "2.1",
    "head-touched-by-detector": "3.1",
    "losses-of-the-original": "3.1",
    "clipped-to-last-pixel": "4.2",
    "inference-of-the-original": "4.2",
}
PARTIAL = {"merged-after-smoothing": {"1.1"}, "head-without-initialisation": {"2.1"}, "slow-suppression": {"4.1"}}


def test_there_are_enough_variants():
    assert sum(not variant.loses for variant in VARIANTS.values()) >= 30


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_answered_however_they_are_written(name, worker):
    assert grade_specimen(VARIANTS[name], CALLS[name], worker).lost == {}


@pytest.mark.parametrize("name", HARD)
def test_honest_variant_gets_all_points(name, worker):
    assert grade_specimen(VARIANTS[name], {HARD[name]}, worker).lost == {}


@pytest.mark.parametrize("name", PARTIAL)
def test_partial_solution_earns_what_the_table_states(name, worker):
    graded = grade_specimen(VARIANTS[name], PARTIAL[name], worker)
    assert set(graded.lost) == set(VARIANTS[name].loses)


def test_unknown_part_of_a_partial_solution_is_named(tmp_path):
    text = '[[variant]]\nname = "a"\nwhy = "b"\nloses = ["1.1/nothing"]\nfile = "notes.py"\ncontent = ""\n'
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(KitError, match=r"x.toml:1: loses must list parts"):
        read_variants(tmp_path)


def test_name_that_appears_twice_is_named(tmp_path):
    entry = '[[variant]]\nname = "a"\nwhy = "b"\nfile = "notes.py"\ncontent = ""\n'
    (tmp_path / "x.toml").write_text(entry + entry)
    with pytest.raises(KitError, match=r"x.toml:6: the name 'a' appears twice"):
        read_variants(tmp_path)
