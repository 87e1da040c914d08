"""Part 1, hidden: gradients, off-square images, other sizes and dtypes."""

import torch

from autograder.compare import Mismatch, assert_matches
from autograder.plugin import task
from autograder.rules import COORDINATES, assert_call, assert_pyramid_values


@task("1.1", "flow")
def test_gradients_reach_every_parameter_and_coarse_features_reach_fine_levels(submission, fresh):
    """Whatever the order of merging: no convolution is left out, p3 and p4 depend on c5, p3 on c4."""
    result = submission.run(fresh("fpn_flow"))
    if not result["parameters"]:
        raise Mismatch("the pyramid has no parameters")
    idle = sum(not size > 0 for size in result["parameters"])
    if idle:
        raise Mismatch(f"{idle} of {len(result['parameters'])} parameters of the pyramid get no gradient")
    for level, source in (("p3", "c3"), ("p3", "c4"), ("p3", "c5"), ("p4", "c4"), ("p4", "c5"), ("p5", "c5")):
        if not result["reach"].get(level, {}).get(source, 0) > 0:
            raise Mismatch(f"{level} does not depend on {source}")


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
def test_locations_of_any_size(submission, fresh):
    """Random sizes, unusual strides."""
    assert_call(submission, fresh("locations_any"), "locations", COORDINATES)


@task("1.2", "general")
def test_locations_in_float64(submission, fresh):
    """The dtype that was asked for."""
    case = fresh("locations_float64")
    result = submission.run(case)
    assert_matches(result, case.expected, "locations", COORDINATES, case.mistakes)
    if any(coordinates.dtype != torch.float64 for coordinates in result.values()):
        raise Mismatch("the locations do not have the dtype that was asked for")
