"""Part 1, hidden: gradients, off-square images, other sizes and dtypes."""

import pytest
import torch

from autograder.compare import Mismatch, assert_matches
from autograder.plugin import task
from autograder.rules import COORDINATES, assert_pyramid_values


@task("1.1", "flow")
def test_gradients_reach_every_parameter_and_coarse_features_reach_fine_levels(submission, fresh):
    """Whatever the order of merging: no convolution is left out, p3 and p4 depend on c5, p3 on c4."""
    result = submission.run(fresh("fpn_flow"))
    for mode in ("eval", "train"):
        flow = result[mode]
        if not flow["parameters"]:
            raise Mismatch("the pyramid has no parameters")
        if any(not size > 0 for size in flow["parameters"]):
            raise Mismatch(f"some parameters of the pyramid get no gradient in {mode} mode")
        for level, source in (("p3", "c3"), ("p3", "c4"), ("p3", "c5"), ("p4", "c4"), ("p4", "c5"), ("p5", "c5")):
            if not flow["reach"].get(level, {}).get(source, 0) > 0:
                raise Mismatch(f"{level} does not depend on {source} in {mode} mode")


@task("1.1", "off-square")
def test_pyramid_of_an_off_square_image(submission, reference):
    """Shapes on 64 x 160 with 20 channels."""
    case = reference("fpn_off_square")
    assert_matches(submission.run(case), case.expected, "the pyramid", mistakes=case.mistakes)


@task("1.1", "off-square")
def test_pyramid_merges_off_square_levels(submission, fresh):
    """Values on off-square maps."""
    assert_pyramid_values(submission, fresh("fpn_merge_off_square"))


@task("1.2", "general")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("locations_any", torch.float32), ("locations_float64", torch.float64)],
    ids=["float32", "float64"],
)
def test_locations_of_any_size_and_dtype(submission, fresh, name, dtype):
    """Random sizes, unusual strides, float32 when no dtype is given."""
    case = fresh(name)
    result = submission.run(case)
    assert_matches(result, case.expected, "locations", COORDINATES, case.mistakes)
    if any(coordinates.dtype != dtype for coordinates in result.values()):
        raise Mismatch("the locations do not have the dtype that was asked for")


@task("1.2", "general")
def test_locations_on_another_device(submission, fresh):
    """The device that was asked for."""
    case = fresh("locations_device")
    if submission.run(case) != case.expected:
        raise Mismatch("the locations do not lie on the device that was asked for")
