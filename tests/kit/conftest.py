"""A worker that all tests of this folder share: importing torch once is enough."""

import shutil

import pytest

from autograder.sandbox import Worker
from autograder.tasks import FILES, ROOT


@pytest.fixture(scope="session")
def worker():
    with Worker() as shared:
        yield shared


@pytest.fixture
def solution_copy(tmp_path):
    """A folder with the solutions' two files, to be spoiled by a test."""
    folder = tmp_path / "submission"
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / "solutions" / name, folder / name)
    return folder


@pytest.fixture
def spoil(solution_copy):
    """Function (file, old, new): replace text that must be there."""

    def replace(name, old, new):
        path = solution_copy / name
        text = path.read_text()
        assert old in text, f"{name} does not hold {old!r}"
        path.write_text(text.replace(old, new))
        return solution_copy

    return replace
