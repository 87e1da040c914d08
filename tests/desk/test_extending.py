"""docs/extending.md, followed to the letter on a copy of the repository: a task is added and graded, mutants die."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from autograder.isolation import choose_level
from autograder.tasks import ROOT

TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
COPIED = ("assignment", "autograder", "helpers", "notebooks", "solutions", "tools")
_STEP = re.compile(
    r"^(?:(At the end of|In the new file|In) `([^`]+)`(?:, above `(.+?)`)?:\n\n)?```(\w+)\n(.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def lines(text):
    """The lines that say something, without spaces at their ends."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def edit(repository, how, path, above, text):
    path = repository / path
    if how == "In the new file":
        assert not path.exists()
        path.write_text(text, encoding="utf-8")
        return
    before = path.read_text(encoding="utf-8")
    if how == "In":
        assert before.count(f"{above}\n") == 1, f"{path} has no line {above}"
        path.write_text(before.replace(f"{above}\n", f"{text}{above}\n"), encoding="utf-8")
    else:
        path.write_text(before + text, encoding="utf-8")


@pytest.mark.timeout(900)
def test_page_adds_a_task(tmp_path):
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "mutants").mkdir(parents=True)
    shutil.copytree(ROOT / "tests" / "variants", tmp_path / "tests" / "variants")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    exact = choose_level()[0] == "bubblewrap"  # elsewhere the level stands in the output, and a warning
    steps = _STEP.findall(TEXT)
    assert len(steps) >= 12
    for how, path, above, language, text in steps:
        if language != "console":
            edit(tmp_path, how, path, above, text)
            continue
        for command, shown in _COMMAND.findall(text):
            name, *arguments = shlex.split(command)
            assert name == "kit"
            run = subprocess.run(
                [sys.executable, "-m", "tools.cli", *arguments],
                cwd=tmp_path, env=environment, capture_output=True, text=True,
            )  # fmt: skip
            assert run.returncode == 0, f"$ {command}\n{run.stdout}{run.stderr}"
            pattern = ".*?".join(map(re.escape, "\n".join(lines(shown)).split("…")))
            printed = "\n".join(lines(run.stdout))
            assert not exact or re.fullmatch(pattern, printed, re.DOTALL), f"$ {command}\n{printed}\n--- shown\n{shown}"
    assert "def boxes_to_centers" in (tmp_path / "assignment" / "common.py").read_text()
    assert "x2 - x1" not in (tmp_path / "assignment" / "common.py").read_text()
    assert 'check(\\"4.3\\")' in (tmp_path / "notebooks" / "one_stage_detector.ipynb").read_text()


def test_page_names_only_places_that_are_there():
    for name in re.findall(r"`((?:solutions|autograder|tests|assignment|docs)/[\w./-]*)`", TEXT):
        assert (ROOT / name).exists() or "4.3" in name or "centers_some" in name, name  # what the page adds
