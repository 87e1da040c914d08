"""The hostile submissions that the chosen tests ask for and their honest twins, graded once, two pairs at a time."""

import os

import pytest
from required import require_level

from tools.hostile import load_fixtures
from tools.verify_security import verify

LEVEL = os.environ.get("FCOS_HOSTILE_LEVEL", "bubblewrap")


@pytest.fixture(scope="session")
def pairs(request):
    """{name: pair} of the fixtures that tests of this run are parametrized with."""
    require_level(LEVEL)
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if "pairs" in item.fixturenames and hasattr(item, "callspec")
    }
    return {pair.name: pair for pair in verify([one for one in load_fixtures() if one.name in chosen], LEVEL)}
