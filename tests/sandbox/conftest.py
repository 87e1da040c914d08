"""Workers and small submissions for the tests of the sandbox."""

import pytest
from required import require_level

from autograder.isolation import LEVELS
from autograder.sandbox import Worker

# One submission serves nearly all tests: it runs the code that it is given, so that no test has to start a worker.
RUNS_ANYTHING = """
def f(code):
    scope = {"__name__": "common", "__file__": __file__}
    exec(code, scope)
    return scope["f"]()
"""


@pytest.fixture(scope="session")
def workers():
    """Function (level) -> worker, one for each level; one that a test destroys starts again by itself."""
    started = {}

    def get(level):
        require_level(level)
        if level not in started:
            started[level] = Worker(level)
        return started[level]

    yield get
    for worker in started.values():
        worker.close()


@pytest.fixture(scope="session")
def obliging_submission(tmp_path_factory):
    """The folder of the submission that runs what it is given."""
    folder = tmp_path_factory.mktemp("obliging") / "submission"
    folder.mkdir()
    (folder / "common.py").write_text(RUNS_ANYTHING)
    return folder


@pytest.fixture
def write_submission(tmp_path):
    """Function (source of common.py) -> folder."""

    def write(source):
        folder = tmp_path / "submission"
        folder.mkdir()
        (folder / "common.py").write_text(source)
        return folder

    return write


@pytest.fixture
def call(workers, obliging_submission):
    """Function (code that defines `f`, level, limits) -> outcome of running it in a worker; or of another probe."""

    def run(code, level="process", limits=None, answer=None, folder=None, **request):
        body = {
            "folder": str(folder or obliging_submission),
            "modules": ["common"],
            "replaced": [],
            "forbidden": [],
            "probe": "call",
            "inputs": {"function": "f", "arguments": {} if folder else {"code": code}},
            **request,
        }
        return workers(level).run(body, *([limits] if limits else []), answer=answer)

    return run


def pytest_generate_tests(metafunc):
    """Run a test that takes `level` at the levels that promise what it tests."""
    if "level" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("at")
        metafunc.parametrize("level", marker.args if marker else [level for level in LEVELS if level != "uid"])


def pytest_configure(config):
    config.addinivalue_line("markers", "at(*levels): the levels that promise what a test tests")
