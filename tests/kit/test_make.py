"""The two commands: set-up happens once."""

import os
import shutil
import subprocess

import pytest

from autograder.tasks import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make: apt-get install make")


def dry_run(target, *options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    run = subprocess.run(
        ["make", "--dry-run", target, *options], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    return run.stdout


def test_second_run_installs_nothing():
    if not list((ROOT / ".venv").glob(".installed-*")):
        pytest.skip("this checkout was not set up with make: run make setup")
    assert "pip install" not in dry_run("demo")
    assert "kit demo" in dry_run("demo")


def test_first_run_installs_pins_and_the_kit(tmp_path):
    commands = dry_run("test", f"VENV={tmp_path / 'venv'}")
    assert f"-m venv {tmp_path / 'venv'}" in commands
    assert "-r requirements-dev.txt" in commands
    assert "-e ." in commands
    assert commands.index("-m venv") < commands.index("-r requirements-dev.txt") < commands.index("-m pytest")


def test_help_lists_every_target():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "test", "test-min", "lint", "build", "clean"):
        assert f"make {target}" in listed


def test_pins_carry_no_address():
    for path in ROOT.glob("requirements*.txt"):
        text = path.read_text()
        assert "://" not in text
        assert "--index-url" not in text
