"""Makes `python -m pytest autograder --submission PATH` grade a submission."""

from pathlib import Path

import pytest


def pytest_addoption(parser):
    """Add the option that names the submission."""
    parser.addoption("--submission", help="folder or zip with common.py and one_stage_detector.py", type=Path)
    parser.addoption("--public-only", action="store_true", help="leave out hidden tests")


def pytest_configure(config):
    """Register the grading plugin, unless `kit grade` has done so."""
    config.addinivalue_line("markers", "task(id, part): the task and the part of it that a graded test decides")
    if config.option.submission is None:
        return
    from autograder.grade import grading_session

    session = grading_session(config.option.submission, public_only=config.option.public_only)
    config.pluginmanager.register(session.__enter__(), "grading")
    config.add_cleanup(lambda: session.__exit__(None, None, None))


def pytest_collection_modifyitems(config, items):
    """Skip graded tests when there is nothing to grade."""
    if not any(type(plugin).__name__ == "Grading" for plugin in config.pluginmanager.get_plugins()):
        reason = "name a submission: python -m pytest autograder --submission PATH"
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))
