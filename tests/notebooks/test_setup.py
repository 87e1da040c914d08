"""The set-up cell finds the assignment in a fake Colab with a fake Drive, and locally, and asks only if it must."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from helpers import notebook as nb
from tools.notebooks import render_notebooks

ROOT = Path(__file__).resolve().parents[2]

# `drive.mount` of the fake makes the folder appear, as Colab's does; whatever was there before is what Drive holds.
FAKE_DRIVE = """
import os
def mount(mountpoint):
    print("Mounted at", mountpoint)
    if not os.path.islink(mountpoint):
        os.symlink(os.environ["FAKE_DRIVE_CONTENT"], mountpoint)
"""
# Runs the set-up cell like a kernel does, once or twice, and reports what it left behind.
RUNNER = """
import json, sys
source = open(sys.argv[1]).read()
namespace, paths = {}, []
for _ in range(int(sys.argv[2])):
    exec(compile(source, "setup cell", "exec"), namespace)
    paths.append(list(sys.path))
workspace = namespace["workspace"]
result = {name: str(getattr(workspace, name)) for name in ("assignment", "output", "data", "notebook", "in_colab")}
import os
result["archive"] = os.environ.get("FCOS_VOC_ARCHIVE", "")
import helpers
result["helpers"] = helpers.__file__
result["common"] = getattr(sys.modules.get("common"), "__file__", "")
print("RESULT", json.dumps({**result, "paths": paths}))
"""


@pytest.fixture(scope="module")
def setup_cell(tmp_path_factory) -> Path:
    """The source of the set-up cell as students have it."""
    released = nbformat.reads(
        render_notebooks(ROOT / "solutions" / "notebooks")["one_stage_detector.ipynb"], as_version=4
    )
    path = tmp_path_factory.mktemp("cell") / "setup.py"
    path.write_text(next(cell.source for cell in released.cells if cell.id == "setup"))
    return path


def make_kit(folder: Path, greeting: str = "Hello") -> Path:
    """An unzipped assignment, with student files that import nothing slow."""
    (folder / "helpers").mkdir(parents=True)
    for name in ("__init__.py", "notebook.py"):
        (folder / "helpers" / name).write_text((ROOT / "helpers" / name).read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("common", "one_stage_detector"):
        (folder / f"{name}.py").write_text(f"def hello_{name}():\n    print('{greeting} from {name}.py!')\n")
    return folder


def make_colab(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An empty Drive, and the environment of a runtime that mounts it."""
    package = tmp_path / "fake" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "drive.py").write_text(FAKE_DRIVE)
    my_drive = tmp_path / "content of drive" / "MyDrive"
    my_drive.mkdir(parents=True)
    (tmp_path / "runtime").mkdir()
    return my_drive, {
        "PYTHONPATH": str(tmp_path / "fake"),
        "FAKE_DRIVE_CONTENT": str(my_drive.parent),
        "FCOS_DRIVE": str(tmp_path / "runtime" / "drive"),
        "FCOS_DATA": str(tmp_path / "data"),
    }


def run(cell: Path, cwd: Path, environment: dict[str, str], times: int = 1, answers: str = ""):
    """Run the cell in a new interpreter; returns its result (or None) and the finished process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FCOS_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(cell), str(times)],
        cwd=cwd,
        env={**clean, **environment},
        input=answers,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return (json.loads(lines[0].removeprefix("RESULT ")) if lines else None), done


def test_colab_finds_the_folder_and_a_second_run_changes_nothing(setup_cell, tmp_path):
    my_drive, environment = make_colab(tmp_path)
    kit = make_kit(my_drive / "Colab Notebooks" / "my course (2)" / "fcos")
    (my_drive / "holiday photos").mkdir()
    result, done = run(setup_cell, tmp_path / "runtime", environment, times=2)
    assert result is not None, done.stderr
    assert result["in_colab"] == "True"
    assert result["assignment"] == str(kit.resolve())
    assert result["output"] == str(kit.resolve() / "runs")  # on Drive: it outlives the machine
    assert result["data"] == str(tmp_path / "data")  # not on Drive: thousands of small files
    first, second = result["paths"]
    assert first == second
    assert first[0] == str(kit.resolve())
    assert len(set(first)) == len(first)
    assert result["common"] == str(kit.resolve() / "common.py")
    for text in ("Mounted at", "Hello from common.py!", "Hello from one_stage_detector.py!", "Hello from the helpers!"):
        assert text in done.stdout
    assert "common.py edited just now" in done.stdout
    assert "which" not in done.stdout.lower()  # nothing to ask


@pytest.mark.parametrize(("name", "taken"), [("VOC2007.zip", True), ("voc.txt", False), ("ada01_fcos.zip", False)])
def test_colab_takes_the_images_from_an_archive_beside_the_notebook(setup_cell, tmp_path, name, taken):
    my_drive, environment = make_colab(tmp_path)
    kit = make_kit(my_drive / "fcos")
    (kit / name).touch()
    result, done = run(setup_cell, tmp_path / "runtime", environment)
    assert result is not None, done.stderr
    assert result["archive"] == (str(kit.resolve()) if taken else "")


def test_colab_asks_which_of_several_folders_and_imports_from_that_one(setup_cell, tmp_path):
    my_drive, environment = make_colab(tmp_path)
    make_kit(my_drive / "fcos", greeting="Old hello")
    newer = make_kit(my_drive / "fcos second try", greeting="New hello")
    result, done = run(setup_cell, tmp_path / "runtime", environment, times=2, answers="seven\n3\n2\n")
    assert result is not None, done.stderr
    assert done.stdout.count("Which one do you work in?") == 1  # and not again in the second run
    assert done.stdout.count("type a number from 1 to 2") == 2  # "seven" and 3 are no answers
    assert result["assignment"] == str(newer.resolve())
    assert Path(result["helpers"]).resolve().is_relative_to(newer.resolve())
    assert "New hello from common.py!" in done.stdout
    assert "Old hello" not in done.stdout


def test_colab_without_anybody_to_ask_names_the_variable(setup_cell, tmp_path):
    my_drive, environment = make_colab(tmp_path)
    make_kit(my_drive / "a")
    chosen = make_kit(my_drive / "b")
    result, done = run(setup_cell, tmp_path / "runtime", environment)
    assert result is None
    assert "set the variable FCOS_ASSIGNMENT to the folder" in done.stderr
    result, done = run(setup_cell, tmp_path / "runtime", {**environment, "FCOS_ASSIGNMENT": str(chosen)})
    assert result is not None, done.stderr
    assert result["assignment"] == str(chosen.resolve())


def test_colab_with_an_empty_drive_says_what_to_do(setup_cell, tmp_path):
    _, environment = make_colab(tmp_path)
    result, done = run(setup_cell, tmp_path / "runtime", environment)
    assert result is None
    assert "FileNotFoundError" in done.stderr
    assert "Unzip it" in done.stderr


def test_local_run_uses_the_folder_of_the_notebook(setup_cell, tmp_path):
    kit = make_kit(tmp_path / "my fcos")
    (kit / "one_stage_detector.ipynb").write_text("{}")
    result, done = run(setup_cell, kit, {"FCOS_DATA": str(tmp_path / "data")}, times=2)
    assert result is not None, done.stderr
    assert result["in_colab"] == "False"
    assert result["assignment"] == str(kit)
    assert result["notebook"] == str(kit / "one_stage_detector.ipynb")
    assert "Mounted" not in done.stdout


def test_broken_file_is_named_with_its_line_and_the_set_up_goes_on(setup_cell, tmp_path):
    kit = make_kit(tmp_path / "fcos")
    (kit / "common.py").write_text("def hello_common():\n    print('hi'\n")
    (kit / "one_stage_detector.py").write_text("raise RuntimeError('half a thought')\n")
    result, done = run(setup_cell, kit, {"FCOS_DATA": str(tmp_path / "data")})
    assert result is not None, done.stderr
    assert "common.py has a syntax error in line 2" in done.stdout
    assert "one_stage_detector.py could not be imported: RuntimeError: half a thought" in done.stdout


def test_read_only_data_folder_with_images_is_used_and_left_alone(tmp_path, monkeypatch):
    data = tmp_path / "shared data"
    (data / "VOCdevkit").mkdir(parents=True)
    before = sorted(data.rglob("*")), data.stat().st_mtime_ns
    data.chmod(0o555)
    monkeypatch.setenv("FCOS_DATA", str(data))
    assert nb._data_folder(in_colab=False) == data
    assert (sorted(data.rglob("*")), data.stat().st_mtime_ns) == before
    data.chmod(0o755)


def test_folder_that_cannot_be_written_gives_way_to_a_temporary_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(nb.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "file").touch()
    # Below a file no folder can be made, whoever asks: root may write into a read-only folder.
    folder = nb.writable_folder(tmp_path / "file" / "runs")
    assert folder == tmp_path / "temporary" / "fcos" / "runs"
    assert folder.is_dir()
    assert "cannot be written to" in capsys.readouterr().out


def test_search_skips_what_is_nobodys_work_and_stops_at_its_depth(tmp_path):
    for place in ("solutions", ".hidden", "tests/x", "one/two/three/four", "one/two/three/four/five/six"):
        make_kit(tmp_path / place)
    assert nb.find_assignments(tmp_path, depth=3) == []
    assert nb.find_assignments(tmp_path, depth=4) == [tmp_path / "one/two/three/four"]


def test_named_folder_without_the_files_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("FCOS_ASSIGNMENT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"FCOS_ASSIGNMENT is .*, where common\.py and one_stage_detector\.py"):
        nb._candidates(in_colab=False)


def test_last_edited_counts_minutes_hours_and_days(tmp_path):
    now = time.time()
    for name, age in (("common.py", 3 * 60 + 5), ("one_stage_detector.py", 2 * 86400 + 5)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    assert nb.last_edited(tmp_path) == "common.py edited 3 minutes ago, one_stage_detector.py edited 2 days ago"


def test_missing_packages_are_installed_quietly_and_a_failure_is_said(monkeypatch, capsys):
    commands = []

    def fail(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(nb, "COLAB_LACKS", ("json", "a_package_that_nobody_has"))
    monkeypatch.setattr(nb.subprocess, "run", fail)
    nb._install_missing()
    assert commands == [[sys.executable, "-m", "pip", "install", "--quiet", "a_package_that_nobody_has"]]
    assert "no network" in capsys.readouterr().out
