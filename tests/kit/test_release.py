"""What students receive: everything that they need, nothing that gives an answer away."""

import subprocess
import sys
import zipfile

import pytest

from autograder.errors import KitError
from autograder.tasks import FILES, ROOT
from tools import release


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("release")
    release.write_zip(out / "kit.zip", release.student_files(), "fcos")
    with zipfile.ZipFile(out / "kit.zip") as archive:
        archive.extractall(out)
    return out / "fcos"


def test_release_is_the_same_bytes_twice(tmp_path):
    files = release.student_files()
    release.write_zip(tmp_path / "a.zip", files, "fcos")
    release.write_zip(tmp_path / "b.zip", dict(reversed(files.items())), "fcos")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_release_holds_no_solution_and_nothing_hidden(student_folder):
    names = {path.relative_to(student_folder).as_posix() for path in student_folder.rglob("*") if path.is_file()}
    assert {*FILES, "one_stage_detector.ipynb", "autograder/tasks.toml", "helpers/dataset.py"} <= names
    assert not [name for name in names if "hidden" in name or "oracle" in name or "solutions" in name]
    # Lines of a solution that stand nowhere in the skeletons must stand nowhere in the release.
    kept = {line.strip() for name in FILES for line in (ROOT / "assignment" / name).read_text().splitlines()}
    checked = 0
    shipped = "\n".join(path.read_text(encoding="utf-8") for path in student_folder.rglob("*.py"))
    shipped += (student_folder / "one_stage_detector.ipynb").read_text(encoding="utf-8")
    for name in FILES:
        for line in map(str.strip, (ROOT / "solutions" / name).read_text().splitlines()):
            if line not in kept and len(line) > 40 and "SOLUTION" not in line and "#:" not in line:
                checked += 1
                assert line not in shipped
    assert checked > 60


def test_check_works_in_the_student_folder_alone(student_folder):
    """Without the oracle: the skeleton is told what is missing, in a process that sees nothing of the repository."""
    code = "from autograder import check; import autograder; print(autograder.__file__); print(check('1.2', '2.2'))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=student_folder, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(student_folder)},
    )  # fmt: skip
    assert str(student_folder) in run.stdout
    assert "not implemented yet (common.py:" in " ".join(run.stdout.split())  # lines are wrapped
    assert "0 of 6 points" in run.stdout


def test_release_names_an_entry_that_matches_nothing(monkeypatch):
    monkeypatch.setattr(release, "STUDENT_FILES", [("helpers", "*.nothing", "")])
    with pytest.raises(KitError, match=r"lists helpers/\*.nothing"):
        release.student_files()
