"""A worker that all tests of this folder share, and a table of tasks that can be changed."""

import pytest

from autograder.sandbox import Worker
from autograder.tasks import ROOT


@pytest.fixture(scope="session")
def worker():
    with Worker() as shared:
        yield shared


@pytest.fixture
def changed_table(tmp_path):
    """Function (old, new, ...): path of the table of tasks with text replaced."""

    def change(*pairs):
        text = (ROOT / "solutions" / "tasks.toml").read_text()
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the table"
            text = text.replace(old, new)
        path = tmp_path / "tasks.toml"
        path.write_text(text)
        return path

    return change
