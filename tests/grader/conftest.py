"""A worker that all tests of this folder share."""

import pytest

from autograder.sandbox import Worker


@pytest.fixture(scope="session")
def worker():
    with Worker() as shared:
        yield shared
