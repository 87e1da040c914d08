"""Part 2, hidden: other stems and class counts, off-square maps, float64, background without a class column."""

import pytest
import torch

from autograder.compare import Mismatch
from autograder.plugin import task
from autograder.rules import assert_call, assert_head_values, assert_shapes


@task("2.1", "stems")
@pytest.mark.parametrize("name", ["head_stems_narrowing", "head_stems_single", "head_stems_deep"])
def test_head_with_other_stems(submission, fresh, name):
    """Stems of [24, 12], of one layer, of four layers."""
    assert_head_values(submission, fresh(name))


@task("2.1", "general")
def test_head_off_square_in_float64(submission, fresh):
    """3 classes, off-square maps, float64."""
    assert_head_values(submission, fresh("head_general"))


@task("2.5", "off-square")
def test_match_many_overlapping_boxes(submission, fresh):
    """Twelve boxes on an off-square image."""
    assert_call(submission, fresh("match_off_square"), "matched boxes")


@task("2.5", "edges")
@pytest.mark.parametrize("name", ["match_no_box", "match_padding_only", "match_borders"])
def test_match_edge_cases(submission, reference, name):
    """No box, only padding, boxes on the borders of the ranges."""
    assert_call(submission, reference(name), "matched boxes")


@task("2.5", "edges")
def test_match_boxes_of_equal_area(submission, reference):
    """Where two boxes of one size overlap, either is right."""
    case, other = reference("match_equal_areas"), reference("match_equal_areas_turned")
    result = submission.run(case)
    assert_shapes(result, case.expected, "matched boxes")
    for level, rows in result.items():
        rights = [(rows.double() == right[level]).all(dim=1) for right in (case.expected, other.expected)]
        if not torch.logical_or(*rights).all():
            raise Mismatch(f"matched boxes[{level!r}] holds a row that is neither of the two boxes that fit")


@task("2.2", "general")
@pytest.mark.parametrize("name", ["deltas_many", "deltas_float64"])
def test_deltas_of_many_locations(submission, fresh, name):
    """Other strides and dtypes, background among them."""
    assert_call(submission, fresh(name), "deltas")


@task("2.2", "four-columns")
def test_deltas_without_a_class_column(submission, fresh):
    """Boxes of four columns; background is told by the coordinates."""
    assert_call(submission, fresh("deltas_four_columns"), "deltas")


@task("2.3", "general")
@pytest.mark.parametrize("name", ["apply_many", "apply_float64"])
def test_apply_many_deltas(submission, fresh, name):
    """Other strides and dtypes."""
    assert_call(submission, fresh(name), "boxes")


@task("2.3", "mixed")
def test_apply_deltas_of_mixed_sign(submission, fresh):
    """Each delta is clipped by itself."""
    assert_call(submission, fresh("apply_mixed"), "boxes")


@task("2.4", "general")
@pytest.mark.parametrize("name", ["centerness_many", "centerness_float64"])
def test_centerness_of_many_locations(submission, fresh, name):
    """Three orders of magnitude, background among them."""
    assert_call(submission, fresh(name), "centerness")
