"""Whose submission is whose, from the names that learning platforms give; and which of two counts."""

import json
import os
import re
import tempfile
from pathlib import Path

import archive_makers as make
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.batch import write_whole
from autograder.errors import KitError
from autograder.identity import find_submissions

ZIP = make.zip_of(make.HONEST)


def manifest(*ids) -> bytes:
    return make.zip_of({**make.HONEST, "manifest.json": json.dumps({"student_ids": list(ids)}).encode()})


def lay_out(tmp_path, names: dict):
    """A class folder of {name: bytes of a file, or None for a folder}; each is a second newer than the one before."""
    folder = tmp_path / "class"
    folder.mkdir()
    for age, (name, content) in enumerate(names.items()):
        path = folder / name
        if content is None:
            path.mkdir()
            (path / "common.py").write_bytes(make.COMMON)
        else:
            path.write_bytes(content)
        os.utime(path, (1_000_000 + age, 1_000_000 + age))
    return folder


def write_class(folder, class_of: dict):
    """What is found in a class of {folder: student in its manifest, or None}."""
    for name, claim in class_of.items():
        (folder / name).mkdir()
        (folder / name / "common.py").write_bytes(make.COMMON)
        if claim:
            (folder / name / "manifest.json").write_text(json.dumps({"student_ids": [claim]}))
    return find_submissions(folder)


def ids_of(folder) -> dict:
    return {one.id: one.source for one in find_submissions(folder).submissions}


# name in the class folder -> the student's id
NAMES = {
    "Last_First_123456_assignment.zip": "123456",
    "Last_First_LATE_123456_assignment.zip": "123456",
    "doejane_123456_7891011_assignment-1.zip": "123456",
    "doejane_LATE_123456_7891011_assignment.tar.gz": "123456",
    "O'Neil_Ann Marie_123456_my work.zip": "123456",
    "Müller-Lüdenscheidt_Jörg_123456_a_b_c.zip": "123456",
    "submission_12345": "12345",
    "submission_12345.zip": "12345",
    "jdoe": "jdoe",
    "jdoe.zip": "jdoe",
    "jdoe.tar.gz": "jdoe",
    "jdoe_fcos.zip": "jdoe",
    "Jane.Doe+John.zip": "Jane.Doe+John",
    "hw_4_alice.zip": "hw_4_alice",
}


@pytest.mark.parametrize("name", NAMES)
def test_name_gives_the_students_id(tmp_path, name):
    folder = lay_out(tmp_path, {name: None if "." not in name else ZIP})
    assert ids_of(folder) == {NAMES[name]: name}


LONG = {"長": 84, "𝔞": 63, "e\u0301": 80}  # a character -> as many as a folder's name may have, of 255 bytes


@pytest.mark.parametrize("letter", LONG)
def test_id_of_long_names_leaves_room_for_what_files_add_to_it(tmp_path, letter):
    names = [letter * LONG[letter], letter * (LONG[letter] - 1)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "common.py").write_bytes(make.COMMON)
    ids = list(ids_of(tmp_path))
    assert len(set(ids)) == 2
    for one in ids:
        write_whole(tmp_path / f"{one}.json", "{}")


@pytest.mark.parametrize("name", ["a b.zip", "=cmd|' -C0'!A0.zip", "-rf.zip", "$(x).zip", "new\nline.zip", "x" * 90])
def test_id_is_fit_for_a_file_name(tmp_path, name):
    ((one),) = find_submissions(lay_out(tmp_path, {name: None})).submissions
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", one.id)
    assert len(one.id) <= 100
    assert one.source.isprintable()


def test_ids_that_would_share_a_file_are_kept_apart(tmp_path):
    ids = ids_of(lay_out(tmp_path, {"a b.zip": ZIP, "a_b.zip": ZIP, "a  b.zip": ZIP, "Jo.zip": ZIP, "jo.zip": ZIP}))
    assert len({one.casefold() for one in ids}) == 5


def test_canvas_marks_late_submissions(tmp_path):
    folder = lay_out(tmp_path, {"a_LATE_111_x.zip": ZIP, "late_222_x.zip": ZIP})
    assert [(one.id, one.late) for one in find_submissions(folder).submissions] == [("111", True), ("222", False)]


NEWEST = {
    "time": {"d_j_111_x.zip": ZIP, "d_j_LATE_111_y.zip": ZIP},
    "second upload": {"d_j_111_x-1.zip": ZIP, "d_j_111_x.zip": ZIP},
    "tenth upload": {"d_j_111_x-10.zip": ZIP, "d_j_111_x-9.zip": ZIP},
    "upload number": {"dj_111_1000_x.zip": ZIP, "dj_111_999_x.zip": ZIP},
    "unpacked copy": {"jdoe": None, "jdoe.zip": ZIP},
    "browser's second": {"jdoe_fcos (1).zip": manifest("jdoe"), "jdoe_fcos.zip": manifest("jdoe")},
}
COUNTS = {
    "time": "d_j_LATE_111_y.zip",
    "second upload": "d_j_111_x-1.zip",
    "tenth upload": "d_j_111_x-10.zip",
    "upload number": "dj_111_1000_x.zip",
    "unpacked copy": "jdoe.zip",
    "browser's second": "jdoe_fcos (1).zip",
}


@pytest.mark.parametrize("case", NEWEST)
def test_newest_of_two_submissions_counts_and_the_other_is_named(tmp_path, case):
    found = find_submissions(lay_out(tmp_path, NEWEST[case]))
    (other,) = set(NEWEST[case]) - {COUNTS[case]}
    assert [one.source for one in found.submissions] == [COUNTS[case]]
    assert found.superseded == [{"id": found.submissions[0].id, "source": other, "counts": COUNTS[case]}]


def test_py_files_of_a_canvas_download_are_one_submission(tmp_path):
    folder = lay_out(
        tmp_path,
        {
            "doejane_111_900_common.py": make.COMMON,
            "doejane_111_901_one_stage_detector-1.py": make.DETECTOR,
            "roejim_LATE_222_902_common.py": make.COMMON,
        },
    )
    first, second = find_submissions(folder).submissions
    assert (first.id, len(first.paths), first.late) == ("111", 2, False)
    assert (second.id, len(second.paths), second.late) == ("222", 1, True)


def test_manifest_gives_the_id_where_the_name_says_nothing(tmp_path):
    folder = lay_out(tmp_path, {"upload.zip": manifest("jdoe7"), "other.zip": manifest("b", "a1", "c2")})
    assert ids_of(folder) == {"jdoe7": "upload.zip", "other": "other.zip"}  # "b" is too short for an id
    folder = (
        lay_out(tmp_path / "pair", {"x.zip": manifest("b2", "a1")}) if (tmp_path / "pair").mkdir() is None else None
    )
    assert ids_of(folder) == {"a1+b2": "x.zip"}


def test_ids_with_underscores_stay_whole(tmp_path):
    zips = {f"{one}.zip": manifest(one[:9]) for one in ("s_1234567_fcos", "s_7654321_fcos", "s_7654321_fcos (1)")}
    zips["roejim_222_900_s_1234567_fcos.zip"] = manifest("s_1234567")  # Canvas says whose it is
    folder = lay_out(tmp_path, zips)
    assert ids_of(folder) == {
        "222": "roejim_222_900_s_1234567_fcos.zip",
        "s_1234567": "s_1234567_fcos.zip",
        "s_7654321": "s_7654321_fcos (1).zip",
    }


def test_members_are_those_of_the_manifest_and_of_nothing_else(tmp_path):
    names = [f"firstname.lastname-{letter}.2026" for letter in "abcd"]  # together longer than a file's name may be
    folder = lay_out(
        tmp_path, {"x.zip": manifest(*reversed(names), names[0]), "ann+cs@example.edu.zip": ZIP, "w++v": None}
    )
    (folder / "Doe_Dan_111_x.zip").write_bytes(manifest("dan1", "eve2"))  # Canvas says whose it is
    (folder / "Roe_Jim_222_x.zip").write_bytes(manifest("jim3"))
    notes = find_submissions(folder).notes
    assert notes == ["111: its manifest names dan1, eve2; if they are a group, name it with --groups"]
    (folder / "Roe_Jim_222_x.zip").unlink()
    found = {one.source: one for one in find_submissions(folder).submissions}
    assert found["x.zip"].members == tuple(names)
    assert len(found["x.zip"].id) < 100
    assert [one.members for source, one in found.items() if source != "x.zip"] == [(), (), ()]
    (folder / "y.zip").write_bytes(manifest(*names))  # now two claim to be them: both are graded, neither is theirs
    assert [one.members for one in find_submissions(folder).submissions] == [()] * 5


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b"{",
        b"[" * 50_000,
        b'{"student_ids": "jdoe"}',
        b'{"student_ids": ["../x"]}',
        b'{"student_ids": []}',
    ],
)
def test_manifest_that_is_no_manifest_is_ignored(tmp_path, content):
    folder = lay_out(tmp_path, {"upload.zip": make.zip_of({**make.HONEST, "manifest.json": content})})
    assert ids_of(folder) == {"upload": "upload.zip"}


def test_manifest_never_displaces_another_submission(tmp_path):
    folder = lay_out(
        tmp_path, {"alice.zip": manifest("alice"), "bob.zip": manifest("alice"), "carol.zip": manifest("111")}
    )
    (folder / "Doe_Dan_111_x.zip").write_bytes(manifest("alice"))
    found = find_submissions(folder)
    assert {one.id: one.source for one in found.submissions} == {
        "111": "Doe_Dan_111_x.zip",
        "alice": "alice.zip",
        "bob": "bob.zip",
        "carol": "carol.zip",
    }
    assert found.superseded == []
    assert found.notes == [
        "alice: claimed by alice.zip, bob.zip; graded apart, decide by hand",
        "111: claimed by carol.zip, Doe_Dan_111_x.zip; graded apart, decide by hand",
    ]


# {folder: student in its manifest, or None} -> the id of each, with the start of a SHA-256 where a name is no id
CHAINS = [
    # bob says that he is s123, whose folder is there, and s123 that he is walt: each keeps the folder's name.
    ({"bob": "s123", "s123": "walt", "walt": None}, {"bob": "bob", "s123": "s123", "walt": "walt"}),
    ({"bob": "s123", "s123": "walt"}, {"bob": "bob", "s123": "walt"}),
    ({"ann": "BOB", "bob": None}, {"ann": "ann", "bob": "bob"}),
    # Canvas says who 111 is; the folder 111 is somebody else's, and neither replaces the other.
    ({"Doe_Dan_111_x": None, "111": None}, {"Doe_Dan_111_x": "111", "111": "111_2-307023d2"}),
    # An id that is the one which "a b" gets.
    ({"a b": None, "x": "a_b-c8687a08"}, {"a b": "a_b-c8687a08", "x": "a_b-c8687a08-98c76cf9"}),
]


@pytest.mark.parametrize(("class_of", "expected"), CHAINS)
def test_manifests_that_name_each_other_lose_no_submission(tmp_path, class_of, expected):
    assert {one.source: one.id for one in write_class(tmp_path, class_of).submissions} == expected


FOLDERS = ["bob", "Bob", "bob (1)", "bob_fcos", "s123", "walt", "111", "Doe_Dan_111_x", "Doe_Dan_111_y", "a b", "a_b"]
CLAIMS = ["bob", "BOB", "s123", "walt", "111", "bob_fcos", "a_b-c8687a08", None]


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(FOLDERS), st.sampled_from(CLAIMS), min_size=1))
def test_every_submission_is_in_one_place_whatever_manifests_say(class_of):
    with tempfile.TemporaryDirectory() as place:
        found = write_class(Path(place), class_of)
    sources = [one.source for one in found.submissions] + [one["source"] for one in found.superseded]
    assert sorted(sources) == sorted(class_of)
    assert len({one.id.casefold() for one in found.submissions}) == len(found.submissions)


def test_number_that_the_class_shares_is_no_students(tmp_path):
    names = ["homework_2024_alice.zip", "homework_2024_bob.zip", "homework_2024_carol.zip"]
    assert list(ids_of(lay_out(tmp_path, dict.fromkeys(names, ZIP))).values()) == names
    (tmp_path / "two").mkdir()
    names = ["alice_2024_x.zip", "bob_2024_x.zip", "carol_3000_x.zip"]
    assert list(ids_of(lay_out(tmp_path / "two", dict.fromkeys(names, ZIP))).values()) == [
        "carol_3000_x.zip",
        *names[:2],
    ]


def test_other_files_are_named_and_left_alone(tmp_path):
    folder = lay_out(
        tmp_path,
        {
            "jdoe.zip": b"broken",
            "grades.csv": b"a,b",
            ".DS_Store": b"",
            "common.py": b"",
            "notes\x1b[31m.txt": b"",
            "out": None,
        },
    )
    (folder / "link").symlink_to(folder / "jdoe.zip")
    found = find_submissions(folder, leave_out=folder / "out")
    assert [one.id for one in found.submissions] == ["jdoe"]  # broken, and still the student's submission
    assert found.notes == [
        "common.py: not a submission; a student's files belong in one folder",
        "grades.csv: not a submission",
        "link: not a submission",
        "notes\\x1b[31m.txt: not a submission",
    ]


def test_folder_without_submissions_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(KitError, match="no such folder"):
        find_submissions(tmp_path / "nowhere")
    with pytest.raises(KitError, match="holds no submission"):
        find_submissions(tmp_path)
    (tmp_path / "common.py").write_text("")
    with pytest.raises(KitError, match="this is one submission"):
        find_submissions(tmp_path)
    with pytest.raises(KitError, match="not a folder"):
        find_submissions(tmp_path / "common.py")
