"""Every hostile submission and its honest twin, graded once for all tests of this folder, two at a time."""

import os

import pytest

from autograder.errors import KitError
from autograder.isolation import choose_level
from tools.verify_security import verify


@pytest.fixture(scope="session")
def pairs():
    """{name: pair} of all fixtures that the level should stop."""
    level = os.environ.get("FCOS_HOSTILE_LEVEL", "bubblewrap")
    try:
        choose_level(level)
    except KitError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have this level: {error}")
        pytest.skip(str(error))
    _, found = verify(level, jobs=2)
    return {pair.name: pair for pair in found}
