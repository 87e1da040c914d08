"""Part 5, hidden: the trained detector as it was handed in, on held-out images."""

import pytest

from autograder.compare import Mismatch
from autograder.plugin import task


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=task("5.1", part)) for part in ("third", "two-thirds", "all")]
)
def test_detector_reaches_a_mean_average_precision(measurement, at_least, part):
    """The threshold is the part's `at_least` in the table, in percent."""
    if measurement.mean_ap < at_least / 100:
        raise Mismatch(f"mAP is {measurement.mean_ap:.2%}, {at_least:g} % are asked for")
