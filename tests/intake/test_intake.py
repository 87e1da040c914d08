"""What honest students hand in, in all the forms that it takes, and what the notes say about it."""

import codecs
import os
import shutil
import tarfile
from pathlib import Path

import archive_makers as make
import pytest

from autograder.archives import SubmissionRefused
from autograder.errors import KitError
from autograder.intake import open_submission, read_manifest
from autograder.sources import source_problem


@pytest.fixture
def folder(tmp_path):
    """A folder with the two files."""
    made = tmp_path / "submission"
    write(made, make.HONEST)
    return made


def write(folder, files: dict):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def taken_from(*paths):
    """Take in; returns {relative path: bytes} and the notes."""
    with open_submission(paths[0] if len(paths) == 1 else paths) as intake:
        copy = {
            str(path.relative_to(intake.folder)): path.read_bytes()
            for path in intake.folder.rglob("*")
            if path.is_file()
        }
        return copy, intake.notes


FORMS = {
    "submission.zip": make.zip_of(make.HONEST),
    "submission.tar.gz": make.tar_of(make.HONEST),
    "submission.tgz": make.tar_of(make.HONEST),
    "submission.tar": make.tar_of(make.HONEST, mode="w"),
    "pax.tar": make.tar_of({"é/../x": b"", **make.HONEST}, mode="w"),
    "no_suffix": make.zip_of(make.HONEST),
    "wrong_suffix.zip": make.tar_of(make.HONEST),
    "comment.zip": make.zip_of(make.HONEST)[:-2] + b"\x05\x00hello",
    "self_extracting.exe": b"MZ" + bytes(600) + make.zip_of(make.HONEST),
}


@pytest.mark.parametrize("name", FORMS)
def test_archive_of_every_form_gives_the_two_files(tmp_path, name):
    (tmp_path / name).write_bytes(FORMS[name])
    assert taken_from(tmp_path / name)[0] == make.HONEST


def test_folder_and_single_files_give_the_two_files_without_a_note(folder):
    assert taken_from(folder) == (make.HONEST, [])
    assert taken_from(folder / "common.py", folder / "one_stage_detector.py") == (make.HONEST, [])
    assert taken_from(folder / "common.py") == ({"common.py": make.COMMON}, ["one_stage_detector.py: missing"])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_files_too_deep_are_found(tmp_path, depth):
    prefix = "/".join(["My Homework", "fcos", "src", "final"][:depth])
    (tmp_path / "a.zip").write_bytes(make.zip_of({f"{prefix}/{name}": text for name, text in make.HONEST.items()}))
    assert taken_from(tmp_path / "a.zip") == (make.HONEST, [f"files taken from the folder {prefix}/"])


def test_folder_with_both_files_wins_over_one_with_one(tmp_path):
    write(tmp_path / "s", {"common.py": b"old = 1\n"} | {f"hw/{name}": text for name, text in make.HONEST.items()})
    assert taken_from(tmp_path / "s") == (
        make.HONEST,
        ["files taken from the folder hw/", "common.py: outside the folder hw/"],
    )


def test_folder_that_holds_one_archive_is_that_archive(tmp_path):
    write(tmp_path / "s", {"hw.zip": make.zip_of(make.HONEST), "readme.txt": b"hello"})
    assert taken_from(tmp_path / "s") == (make.HONEST, ["files taken from hw.zip"])


def test_archive_in_an_archive_is_not_opened(tmp_path):
    (tmp_path / "a.zip").write_bytes(make.zip_of({"hw.zip": make.zip_of(make.HONEST)}))
    with pytest.raises(
        SubmissionRefused, match=r"hw\.zip: an archive inside the submission is not opened; hand in the"
    ):
        taken_from(tmp_path / "a.zip")


@pytest.mark.parametrize(
    "name",
    ["common (1).py", "common(2).py", "common-3.py", "Common.py", "COMMON.PY", "doejane_LATE_12_345_common-1.py"],
)
def test_name_that_a_browser_or_canvas_changed_is_understood(tmp_path, name):
    write(tmp_path / "s", {name: make.COMMON, "one_stage_detector.py": make.DETECTOR})
    copy, notes = taken_from(tmp_path / "s")
    assert copy == make.HONEST
    assert notes == [f"{name}: taken as common.py"]


def test_latest_of_several_downloads_counts(tmp_path):
    write(
        tmp_path / "s",
        {"common (2).py": b"x = 2\n", "common (10).py": make.COMMON, "one_stage_detector.py": make.DETECTOR},
    )
    copy, notes = taken_from(tmp_path / "s")
    assert copy == make.HONEST
    assert notes == ["common (10).py: taken as common.py", "common (2).py: another file counts as common.py"]


def test_exact_name_wins_over_another_case(tmp_path):
    content = make.zip_of({"Common.py": b"x = 1\n", **make.HONEST, "ONE_STAGE_DETECTOR.py": b"x = 1\n"})
    (tmp_path / "a.zip").write_bytes(content)
    copy, notes = taken_from(tmp_path / "a.zip")
    assert copy == make.HONEST
    assert notes == [
        "Common.py: another file counts as common.py",
        "ONE_STAGE_DETECTOR.py: another file counts as one_stage_detector.py",
    ]


def test_last_of_two_entries_of_one_name_counts_as_when_unpacked(tmp_path):
    (tmp_path / "a.zip").write_bytes(
        make.raw_zip(
            [(b"common.py", b"x = 1\n", {}), *((name.encode(), text, {}) for name, text in make.HONEST.items())]
        )
    )
    assert taken_from(tmp_path / "a.zip") == (make.HONEST, ["common.py: 2 times in the archive; the last counts"])


def test_modules_and_packages_beside_the_files_come_along(folder):
    extra = {
        "utils.py": b"x = 1\n",
        "blocks/__init__.py": b"",
        "blocks/heads/fcos.py": b"y = 1\n",
        "tests/test_a.py": b"",
    }
    write(folder, extra)
    assert taken_from(folder) == ({**make.HONEST, **extra}, [])


def test_two_modules_that_differ_only_in_case_give_the_first(tmp_path):
    (tmp_path / "a.tar").write_bytes(make.tar_of({**make.HONEST, "utils.py": b"", "Utils.py": b"x"}, mode="w"))
    copy, notes = taken_from(tmp_path / "a.tar")
    assert copy == {**make.HONEST, "utils.py": b""}
    assert notes == ["Utils.py: a second file of that name; the first counts"]


def test_folder_named_like_a_module_file_is_not_taken(tmp_path):
    (tmp_path / "a.zip").write_bytes(make.zip_of({**make.HONEST, "utils.py": b"", "utils.py/x.py": b""}))
    assert taken_from(tmp_path / "a.zip")[0] == {**make.HONEST, "utils.py": b""}


def test_weights_and_manifest_are_kept_and_a_notebook_is_not(folder):
    write(folder, {"fcos_detector.pt": b"not opened", "manifest.json": b"{}", "one_stage_detector.ipynb": b"{}"})
    copy, notes = taken_from(folder)
    assert copy == {**make.HONEST, "fcos_detector.pt": b"not opened", "manifest.json": b"{}"}
    assert notes == ["one_stage_detector.ipynb: a notebook is not graded; the code in the .py files is"]


def test_weights_beyond_the_limit_are_left_out(folder):
    with (folder / "fcos_detector.pt").open("wb") as file:
        file.truncate((200 << 20) + 1)
    copy, notes = taken_from(folder)
    assert copy == make.HONEST
    assert notes == ["fcos_detector.pt: larger than 200 MiB"]


def test_too_many_or_too_large_extra_files_do_not_cost_the_two(tmp_path):
    extra = {f"m{i}.py": b"#" * (1 << 20) for i in range(12)} | {f"n{i}.py": b"" for i in range(600)}
    (tmp_path / "a.zip").write_bytes(make.zip_of(extra | make.HONEST))
    copy, notes = taken_from(tmp_path / "a.zip")
    assert make.HONEST.items() <= copy.items()
    assert len(copy) <= 502
    assert sum(map(len, copy.values())) < 10 << 20
    assert any("more than 8 MiB" in note for note in notes)
    assert any("more than 500 files" in note for note in notes)


def test_many_files_left_out_for_one_reason_take_one_line(folder):
    write(folder, {f"figures/{i}.png": b"" for i in range(30)} | {f".venv/lib/{i}.py": b"" for i in range(30)})
    assert taken_from(folder) == (
        make.HONEST,
        [
            ".venv: a folder that is not looked into",
            "30 files play no part: figures/0.png, figures/1.png, figures/10.png, …",
        ],
    )


def test_whole_folder_handed_in_gives_few_notes_and_the_full_list(folder):
    kinds = {
        "helpers/data.py": "the kit's own is used in its place; this costs nothing",
        "README.md": "not used for grading",
        "fcos.ipynb": "a notebook is not graded; the code in the .py files is",
        "old.zip": "an archive inside the submission is not opened",
    }
    settings = "settings of Python and pytest are never loaded from a submission; this costs nothing"
    write(folder, dict.fromkeys([*kinds, "conftest.py"], b""))
    with open_submission(folder) as intake:
        important, summary = intake.notes
        assert sorted(intake.left_out) == sorted(
            [*(f"{name}: {reason}" for name, reason in kinds.items()), f"conftest.py: {settings}"]
        )
    assert important == f"conftest.py: {settings}"
    assert summary.startswith("4 files play no part: ")
    assert "hand in" not in summary


def test_many_files_left_out_for_another_reason_take_one_line_for_a_folder(folder):
    write(folder, {f"parts/{i}.py": b"" for i in range(30)})
    assert taken_from(folder)[1] == ["parts/: 30 files, such as parts/0.py: not a name that Python can import"]


def test_notes_are_cut_and_say_so(folder):
    write(folder, {f"d{i}/conftest.py": b"" for i in range(100)})
    notes = taken_from(folder)[1]
    assert len(notes) == 60
    assert notes[-1] == "and 41 more notes of this kind"


def test_copy_is_readable_by_others_and_removed_at_the_end(folder):
    (folder / "common.py").chmod(0o600)
    write(folder, {"blocks/heads/fcos.py": b""})
    before = os.umask(0o077)
    try:
        with open_submission(folder) as intake:
            modes = {path.relative_to(intake.folder): path.stat().st_mode & 0o777 for path in intake.folder.rglob("*")}
            modes[Path()] = intake.folder.stat().st_mode & 0o777
    finally:
        os.umask(before)
    assert {mode for path, mode in modes.items() if path.suffix} == {0o644}
    assert {mode for path, mode in modes.items() if not path.suffix} == {0o755}
    assert not intake.folder.exists()


def test_manifest_is_read_from_the_top_or_one_folder_down(tmp_path):
    assert read_manifest(write_zip(tmp_path, {"manifest.json": b"1"})) == b"1"
    assert read_manifest(write_zip(tmp_path, {"hw/manifest.json": b"2"})) == b"2"
    assert read_manifest(write_zip(tmp_path, {"a/b/manifest.json": b"3"})) is None
    assert read_manifest(write_zip(tmp_path, {"manifest.json": b" " * (65 << 10)})) is None
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04")
    assert read_manifest(tmp_path / "broken.zip") is None


def write_zip(tmp_path, files):
    (tmp_path / "m.zip").write_bytes(make.zip_of(files))
    return tmp_path / "m.zip"


# ---- what cannot be taken in


def test_missing_path_and_wrong_mixture_are_errors_of_the_caller(tmp_path, folder):
    with pytest.raises(KitError, match="no such file or folder"):
        taken_from(tmp_path / "nowhere")
    with pytest.raises(KitError, match="name one folder or archive"):
        taken_from(folder / "common.py", folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"hello", "neither a folder nor a zip"),
        (b"", "neither a folder nor a zip"),
        (b"\x1f\x8bnot really", "a damaged tar"),
        (make.zip_of({}), r"holds neither common\.py nor one_stage_detector\.py"),
        (make.zip_of({"main.py": b"x"}), r"holds neither common\.py"),
        (make.tar_of({}, [make.special("common.py", tarfile.SYMTYPE, "/etc/passwd")]), "common.py: a symbolic link"),
    ],
)
def test_submission_without_the_files_is_refused_by_name(tmp_path, content, problem):
    (tmp_path / "doe_jane.zip").write_bytes(content)
    with pytest.raises(SubmissionRefused, match=rf"^doe_jane\.zip: .*{problem}"):
        taken_from(tmp_path / "doe_jane.zip")


def test_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SubmissionRefused, match="empty: holds neither"):
        taken_from(tmp_path / "empty")


# ---- row 38: sources

SOURCES = {
    # content -> the note about it, or None where Python reads it
    "plain": (b"x = 1\n", None),
    "bom": (codecs.BOM_UTF8 + b"x = 1\n", None),
    "crlf": (b"x = 1\r\ny = 2\r\n", None),
    "tabs": (b"if 1:\n\tx = 1\n", None),
    "utf-8": ("x = 'é'\n".encode(), None),
    "declared latin-1": (b"# -*- coding: latin-1 -*-\nx = '\xe9'\n", None),
    "latin-1": (b"a = 1\nb = 2\nx = '\xe9'\n", "common.py, line 3: the byte 0xe9 is not UTF-8"),
    "latin-1 in line 1": (b"x = '\xe9'\n", "common.py, line 1: the byte 0xe9 is not UTF-8"),
    "unknown encoding": (b"# -*- coding: martian -*-\n", "common.py, line 1: an encoding that Python does not know"),
    "utf-16": ("x = 1\n".encode("utf-16"), "common.py, line 1: saved as UTF-16"),
    "conflict": (b"a = 1\n<<<<<<< HEAD\nb = 1\n=======\nb = 2\n>>>>>>> x\n", "common.py, line 2: a merge conflict"),
    "underlined docstring": (b'"""Title\n=======\n"""\n', None),
    "notebook": (b'{\n "cells": [],\n "nbformat": 4\n}', "common.py, line 1: a notebook, not a Python file"),
    "null byte": (b"x = 1\ny = '\0'\n", "common.py, line 2: a null byte"),
    "empty": (b"\n", "common.py: the file is empty"),
    "archive": (make.zip_of({"a": b""}), "common.py, line 1: an archive"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_source_that_python_cannot_read_is_named_with_its_line(name):
    content, expected = SOURCES[name]
    problem = source_problem("common.py", content)
    assert (problem is None) if expected is None else problem.startswith(expected)
    if expected is None:
        compile(content, "common.py", "exec")  # Python agrees
    elif name not in ("empty", "notebook"):  # both compile, and then define nothing
        with pytest.raises((SyntaxError, ValueError)):
            compile(content, "common.py", "exec")


def test_problem_of_a_source_is_a_note(tmp_path, folder):
    (folder / "common.py").write_bytes(SOURCES["conflict"][0])
    copy, notes = taken_from(folder)
    assert copy["common.py"] == SOURCES["conflict"][0]  # graded as it is: the other file's tasks do not suffer
    assert notes == ["common.py, line 2: a merge conflict is still in the file"]


def test_intake_of_a_shared_folder_leaves_it_as_it_was(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "before")
    taken_from(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (tmp_path / "before").iterdir()
    )
