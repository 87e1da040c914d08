"""What tests need of the machine."""

import os

import pytest

from autograder.errors import KitError
from autograder.isolation import choose_level


def require_level(level: str) -> None:
    """Skip a test where a level of isolation cannot be had; in CI that is a failure."""
    try:
        choose_level(level)
    except KitError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have this level: {error}")
        pytest.skip(str(error))
