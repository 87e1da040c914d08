"""Part 1: the feature pyramid and its locations."""

from autograder.compare import assert_matches
from autograder.plugin import task
from autograder.rules import COORDINATES, assert_call, assert_pyramid_values


@task("1.1", "shapes")
def test_pyramid_has_three_levels_of_the_right_shape(submission, reference):
    """p3, p4, p5 with 64 channels at 1/8, 1/16 and 1/32 of the image."""
    case = reference("fpn_square")
    assert_matches(submission.run(case), case.expected, "the pyramid", mistakes=case.mistakes)


@task("1.1", "merge")
def test_pyramid_merges_levels(submission, reference):
    """Lateral 1x1 convolutions, top-down sums, 3x3 output convolutions, with given weights."""
    assert_pyramid_values(submission, reference("fpn_merge"))


@task("1.2", "values")
def test_locations_of_an_off_square_image(submission, reference):
    """An image of 32 x 96: p3 begins (4, 4), (12, 4), (20, 4)."""
    assert_call(submission, reference("locations_off_square"), "locations", COORDINATES)


@task("1.2", "values")
def test_locations_of_a_square_image(submission, reference):
    """An image of 224 x 224."""
    assert_call(submission, reference("locations_square"), "locations", COORDINATES)
