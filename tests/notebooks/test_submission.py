"""The zip to hand in: what may be in it, what is refused with which reason, and that a damaged one is noticed."""

import hashlib
import json
import zipfile

import pytest
import torch

from autograder.identity import find_submissions
from helpers import submission
from helpers.submission import SubmissionError, describe_submission, make_submission, read_identity, verify_submission

GOOD_IDS = ["u1234567", "ab", "12-34_x.y", "A" * 32, "u1+u2"]
# A bad id could leave the folder, hide the file, or clash with the parts of its name.
BAD_IDS = ["", "a", "../etc", "a/b", "a b", ".hidden", "-rf", "ü123", "A" * 33, "a\nb", "u1+", "u1++u2", "u1+../etc"]
BAD_IDS += ["u1+u2+u3+u4+u5+u6"]  # more than the name of a file may hold
BAD_NAMES = ["", "   ", "x" * 81, "tab\x00name", "bell\x07"]

# File name -> content, and what the message must say.
BAD_FILES = {
    "merge conflict": ("common.py", b"a = 1\n<<<<<<< mine\nb = 2\n", "common.py, line 2: a merge conflict"),
    "syntax error": ("common.py", b"a = 1\ndef f(:\n", "common.py, line 2"),
    "unknown encoding": ("common.py", b"# coding: nonsense\na = 1\n", "common.py, line 1: unknown encoding"),
    "undecodable bytes": ("common.py", b'a = "\xff\xfe"\n', "common.py"),
    "null byte": ("common.py", b"a = 1\x00\n", "common.py"),
    "empty": ("one_stage_detector.py", b"", "one_stage_detector.py has 0.0 MB"),
    "too large": ("common.py", b"# " + b"x" * 2**20, "larger than 1 MB"),
    "not a notebook": ("one_stage_detector.ipynb", b"[]", "is not a notebook"),
    # os.system("true"): were it run, the result would be a number, refused as "must hold a state dict".
    "weights with code in the pickle": (
        "fcos_detector.pt",
        b"cos\nsystem\n(S'true'\ntR.",
        "cannot be loaded as weights",
    ),
}


@pytest.fixture
def folder(tmp_path):
    """A folder with everything, all of it fine."""
    (tmp_path / "common.py").write_text("a = 1\n")
    (tmp_path / "one_stage_detector.py").write_text("from common import a\n")
    cell = {"cell_type": "code", "source": "1", "outputs": [{"output_type": "stream", "text": "1"}]}
    (tmp_path / "one_stage_detector.ipynb").write_text(json.dumps({"cells": [cell]}))
    torch.save({"weight": torch.ones(3)}, tmp_path / "fcos_detector.pt")
    return tmp_path


def submit(folder, **options):
    files = {"notebook": folder / "one_stage_detector.ipynb", "weights": folder / "fcos_detector.pt"}
    return make_submission(folder, "Ada Example", "u1234567", **{**files, **options})


def test_zip_holds_every_file_with_its_hash(folder):
    path = submit(folder)
    assert path == folder / "u1234567_fcos.zip"
    manifest = verify_submission(path)
    assert manifest["name"] == "Ada Example"
    assert manifest["student_ids"] == ["u1234567"]
    names = ["common.py", "one_stage_detector.py", "one_stage_detector.ipynb", "fcos_detector.pt"]
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [*names, "manifest.json"]
        for name in names:
            content = (folder / name).read_bytes()
            assert archive.read(name) == content
            assert manifest["files"][name] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    text = describe_submission(path)
    assert "opened again and complete" in text
    assert "without its outputs" not in text


def test_zip_of_a_group_is_theirs_whoever_makes_it(folder):
    for student_id in ("u2+u1", "u1 + u2 "):
        path = make_submission(folder, "Ada Example", student_id, output_dir=folder / "class")
        assert path.name == "u1+u2_fcos.zip"
        assert verify_submission(path)["student_ids"] == ["u1", "u2"]
    (found,) = find_submissions(folder / "class").submissions
    assert (found.id, found.members) == ("u1+u2", ("u1", "u2"))


def test_zip_can_leave_out_notebook_and_weights(folder):
    manifest = verify_submission(submit(folder, notebook=None, weights=None))
    assert list(manifest["files"]) == ["common.py", "one_stage_detector.py"]


def test_notebook_that_was_saved_without_outputs_is_said(folder):
    (folder / "one_stage_detector.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "outputs": []}]}))
    assert "saved without its outputs" in describe_submission(submit(folder))


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_refused_with_its_reason_and_no_zip_is_left(case, folder):
    name, content, reason = BAD_FILES[case]
    (folder / name).write_bytes(content)
    with pytest.raises(SubmissionError) as refused:
        submit(folder)
    assert reason in str(refused.value)
    assert not list(folder.glob("*.zip"))
    assert not list(folder.glob("*.part"))


def test_all_reasons_come_at_once(folder):
    (folder / "common.py").unlink()
    (folder / "one_stage_detector.py").write_text("def f(:\n")
    with pytest.raises(SubmissionError, match=r"(?s)common\.py is missing.*one_stage_detector\.py, line 1"):
        submit(folder)


def test_weights_must_be_a_state_dict(folder):
    torch.save([1, 2, 3], folder / "fcos_detector.pt")
    with pytest.raises(SubmissionError, match="state dict"):
        submit(folder)


def test_large_weights_are_refused_before_they_are_read(folder, monkeypatch):
    monkeypatch.setitem(submission.SIZE_LIMITS, ".pt", 100)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was opened"))
    with pytest.raises(SubmissionError, match="larger than"):
        submit(folder)


def test_older_zip_survives_a_failed_attempt(folder):
    before = submit(folder).read_bytes()
    (folder / "common.py").write_text("def f(:\n")
    with pytest.raises(SubmissionError):
        submit(folder)
    assert (folder / "u1234567_fcos.zip").read_bytes() == before


@pytest.mark.parametrize("student_id", GOOD_IDS)
def test_good_id_is_taken(student_id):
    assert read_identity("  Ada   Example ", f" {student_id} ") == ("Ada Example", student_id)


@pytest.mark.parametrize("student_id", BAD_IDS)
def test_bad_id_is_refused(student_id):
    with pytest.raises(SubmissionError, match="STUDENT_ID"):
        read_identity("Ada Example", student_id, ask=lambda _: student_id)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_name_is_refused(name):
    with pytest.raises(SubmissionError, match="NAME"):
        read_identity(name, "u1234567", ask=lambda _: name)


def test_names_of_any_script_are_taken():
    assert read_identity("李 明", "u1")[0] == "李 明"


def test_missing_identity_is_asked_for():
    answers = {"Your name, as in the class list: ": "Ada Example", "Your student id: ": "u1"}
    assert read_identity(ask=answers.__getitem__) == ("Ada Example", "u1")


def test_missing_identity_with_nobody_there_says_where_to_write_it():
    def ask(_):
        raise NotImplementedError("no input in a notebook that runs by itself")

    with pytest.raises(SubmissionError, match="Fill in NAME and STUDENT_ID"):
        read_identity(ask=ask)


def change_file(archive: dict) -> None:
    archive["common.py"] += b"# one more line\n"


def add_file(archive: dict) -> None:
    archive["extra.py"] = b""


def drop_file(archive: dict) -> None:
    del archive["one_stage_detector.py"]


def drop_manifest(archive: dict) -> None:
    del archive["manifest.json"]


@pytest.mark.parametrize("damage", [change_file, add_file, drop_file, drop_manifest])
def test_damaged_zip_is_noticed(damage, folder):
    path = submit(folder)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    damage(contents)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(SubmissionError):
        verify_submission(path)


def test_truncated_zip_is_noticed(folder):
    path = submit(folder)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SubmissionError, match="not a complete submission"):
        verify_submission(path)
