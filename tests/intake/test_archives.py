"""Whatever an archive holds, nothing lands outside the copy, and the honest files are found."""

import errno
import gzip
import io
import os
import stat
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import archive_makers as make
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autograder import archives
from autograder.archives import SubmissionRefused
from autograder.intake import open_submission
from autograder.tar_stream import members

# name of an entry -> a word of the note that names it
REFUSED_NAMES = {
    "../escape.py": "leads out",
    "a/../../escape.py": "leads out",
    "..\\..\\escape.py": "leads out",
    f"{tempfile.gettempdir()}/escape.py": "absolute",
    "C:\\escape.py": "absolute",
    "\\\\server\\escape.py": "absolute",
    "../kit-submission-sibling/escape.py": "leads out",
    "new\nline.py": "control character",
    "nul\0byte.py": "control character",
    "\x1b[31mred.py": "control character",
    "$(touch escape).py": "not a name that Python can import",
    "`touch escape`.py": "not a name that Python can import",
    "-rf.py": "not a name that Python can import",
    "; rm x;.py": "not a name that Python can import",
    "x" * 130 + ".py": "more than 120 characters",
    "長" * 100 + ".py": "more than 255 bytes",
    "長" * 100 + "/a.py": "more than 255 bytes",
    "/".join("abcdefghijklmn") + ".py": "folders deep",
    ".DS_Store": "left behind",
    "._common.py": "left behind",
    "__MACOSX/._common.py": "left behind",
    ".ipynb_checkpoints/common-checkpoint.py": "left behind",
    "__pycache__/common.cpython-311.pyc": "left behind",
    "one_stage_detector.ipynb": "notebook",
    "inner.zip": "archive inside",
    "inner.tar.gz": "archive inside",
    "conftest.py": "never loaded",
    "pytest.ini": "never loaded",
    "pyproject.toml": "never loaded",
    "sitecustomize.py": "never loaded",
    "evil.pth": "never loaded",
    "torch.py": "library",
    "torch/__init__.py": "library",
    "numpy.py": "library",
    "random.py": "library",
    "pytest.py": "library",
    "helpers.py": "the kit's own",
    "a4_helper.py": "the kit's own",
    "eecs598/utils.py": "the kit's own",
    "autograder/plugin.py": "the kit's own",
    "results.json": "not used",
}


def take_in(tmp_path, content: bytes, name: str = "submission.bin"):
    """Take in an archive; returns {relative path: bytes} of the copy, and the notes."""
    path = tmp_path / name
    path.write_bytes(content)
    with open_submission(path) as intake:
        return copy_of(intake.folder), intake.notes


def copy_of(folder: Path) -> dict:
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A tar ends a name at its null byte.
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in REFUSED_NAMES for kind in ("zip", "tar") if "\0" not in name or kind == "zip"],
)
def test_archive_with_an_odd_name_gives_the_honest_files_and_one_note(tmp_path, name, kind):
    files = {name: b"bad = 1\n", **make.HONEST}
    copy, notes = take_in(tmp_path, make.zip_of(files) if kind == "zip" else make.tar_of(files))
    assert copy == make.HONEST
    assert len(notes) == 1
    assert REFUSED_NAMES[name] in notes[0]
    assert notes[0].isprintable()
    assert os.listdir(tmp_path) == ["submission.bin"]


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_zip_with_a_link_or_device_in_place_of_a_file_leaves_it_out(tmp_path, mode):
    files = {"common.py": b"/etc/passwd", "one_stage_detector.py": make.DETECTOR}
    copy, notes = take_in(tmp_path, make.zip_of(files, {"common.py": mode | 0o777}))
    assert copy == {"one_stage_detector.py": make.DETECTOR}
    assert any(note.startswith("common.py: ") for note in notes)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a FIFO"),
        (tarfile.GNUTYPE_SPARSE, "not a regular file"),
    ],
)
def test_tar_with_a_link_or_device_leaves_it_out(tmp_path, kind, reason):
    members = [make.special("utils.py", kind, "/etc/passwd"), make.special("out", kind, "..")]
    copy, notes = take_in(tmp_path, make.tar_of({**make.HONEST, "out/escape.py": b""}, members))
    assert copy == {**make.HONEST, "out/escape.py": b""}  # a plain folder of the copy: the link was never made
    assert [note for note in notes if reason in note] == [f"utils.py: {reason_of(notes)}", f"out: {reason_of(notes)}"]


def reason_of(notes: list[str]) -> str:
    return notes[0].partition(": ")[2]


def test_folder_with_links_and_a_fifo_takes_neither(tmp_path):
    folder = tmp_path / "submission"
    folder.mkdir()
    for name, content in make.HONEST.items():
        (folder / name).write_bytes(content)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.py").write_text("secret = 1")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "utils.py").symlink_to(tmp_path / "outside" / "secret.py")
    os.mkfifo(folder / "pipe.py")  # opening it would wait for ever
    with open_submission(folder) as intake:
        assert copy_of(intake.folder) == make.HONEST
        assert len(intake.notes) == 3


# ---- bombs and lies


def test_zip_bomb_beside_the_files_is_never_unpacked(tmp_path):
    copy, notes = take_in(tmp_path, make.zip_of({"bomb.bin": bytes(50 << 20), **make.HONEST}))
    assert copy == make.HONEST
    assert notes == ["bomb.bin: not used for grading"]


@pytest.mark.parametrize("claimed", [None, 10, 2**32 - 2])
def test_source_that_unpacks_beyond_the_limit_is_left_out_whatever_its_header_says(tmp_path, claimed):
    fields = {} if claimed is None else {"size": claimed}
    bomb = make.raw_zip(
        [(b"common.py", b"#" * (30 << 20), fields), (b"one_stage_detector.py", make.DETECTOR, {})],
    )
    copy, notes = take_in(tmp_path, bomb)
    assert copy == {"one_stage_detector.py": make.DETECTOR}
    assert any(note.startswith("common.py: ") and note != "common.py: missing" for note in notes)


def test_weights_that_unpack_a_thousandfold_are_left_out(tmp_path):
    files = {**make.HONEST, "fcos_detector.pt": bytes(20 << 20)}
    copy, notes = take_in(tmp_path, make.zip_of(files))
    assert copy == make.HONEST
    assert notes == ["fcos_detector.pt: unpacks to more than 200 times its size"]


@pytest.mark.parametrize("field", [{"crc": 1}, {"packed": 5}, {"method": 14}, {"method": 99}, {"flags": 0x801}])
def test_damaged_or_encrypted_entry_costs_only_itself(tmp_path, field):
    entries = [(b"utils.py", make.COMMON, field), *((name.encode(), text, {}) for name, text in make.HONEST.items())]
    copy, notes = take_in(tmp_path, make.raw_zip(entries))
    assert copy == make.HONEST
    assert len(notes) == 1


def test_zip_name_that_is_not_utf8_costs_only_itself(tmp_path):
    entries = [(b"caf\xe9.py", b"x = 1", {}), *((name.encode(), text, {}) for name, text in make.HONEST.items())]
    copy, notes = take_in(tmp_path, make.raw_zip(entries))
    assert make.HONEST.items() <= copy.items()
    assert all(note.isprintable() for note in notes)


def test_tar_name_that_is_not_utf8_costs_only_itself(tmp_path):
    files = {b"caf\xe9.py".decode("utf-8", "surrogateescape"): b"x = 1", **make.HONEST}
    copy, notes = take_in(tmp_path, make.tar_of(files))
    assert copy == make.HONEST
    assert notes == ["caf\\udce9.py: its name is not UTF-8"]


def test_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with pytest.raises(SubmissionRefused, match="more than 200 times its size"):
        take_in(tmp_path, make.gzip_bomb(megabytes=64))


def test_tar_that_unpacks_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1 << 20)
    with pytest.raises(SubmissionRefused, match="unpacks to more than 1 MiB"):
        take_in(tmp_path, make.tar_of({"noise.bin": os.urandom(2 << 20), **make.HONEST}))


def test_tar_header_with_a_negative_size_does_not_loop(tmp_path):
    header = bytearray(make.special("evil", tarfile.REGTYPE).tobuf())
    header[124:136] = b"\xff" * 11 + b"\x00"  # base 256: -256, the header itself once more
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(SubmissionRefused):
        take_in(tmp_path, bytes(header) + bytes(1024), "submission.tar")


@pytest.mark.parametrize("count", [16, 17])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_of_headers_are_read_up_to_a_number(tmp_path, count, kind):
    record = b"12 path=a.py\n" if kind == tarfile.XHDTYPE else b"a.py\0"
    info = make.special("long", kind)
    info.size = len(record)
    nested = (info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")) * count
    files = gzip.decompress(make.tar_of({"replaced": b"x = 1\n", **make.HONEST}))
    content = nested.replace(b"12 path", b"13 path") + files
    if count > 16:
        with pytest.raises(SubmissionRefused, match="more than 16 headers for one file"):
            take_in(tmp_path, content, "submission.tar")
        return
    copy, notes = take_in(tmp_path, content, "submission.tar")
    assert (copy, notes) == ({"a.py": b"x = 1\n", **make.HONEST}, [])


def pax(records: dict[str, str]) -> bytes:
    """A header of records, without the member that it speaks of."""
    info = tarfile.TarInfo("a.py")
    info.pax_headers = records
    return info.tobuf(tarfile.PAX_FORMAT)[: -tarfile.BLOCKSIZE]


def test_records_of_a_tar_that_nobody_asks_for_are_not_kept():
    many = pax({f"k{number:04}": "" for number in range(4000)} | {"GNU.sparse.major": "1", "path": "b.py"})
    tracemalloc.start()
    try:
        found = members(io.BytesIO(many + tarfile.TarInfo("a.py").tobuf() + bytes(1024)))
        member = next(found)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (member.name, member.refusal) == ("b.py", "not a regular file")
    assert kept < 200_000  # the header takes 45 kB; 4000 records as objects of Python take more than 500


def test_tar_of_long_names_is_refused_before_they_fill_the_memory(tmp_path):
    longest = pax({"path": "x" * 60_000}) + tarfile.TarInfo("a.py").tobuf()  # 8 MiB hold 139 of them
    copy, _ = take_in(tmp_path, longest * 139 + make.tar_of(make.HONEST, mode="w"), "submission.tar")
    assert copy == make.HONEST
    with pytest.raises(SubmissionRefused, match="names of more than 8 MiB"):
        take_in(tmp_path, longest * 140 + make.tar_of(make.HONEST, mode="w"), "submission.tar")


def test_name_that_the_file_system_does_not_take_costs_only_itself(tmp_path, monkeypatch):
    """Some take less than 255 bytes: encrypted ones 143."""
    opened = Path.open

    def open_there(path, *args, **kwargs):
        if path.name.startswith("x"):
            raise OSError(error, os.strerror(error))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_there)
    content, error = make.zip_of({"xyz.py": b"x = 1\n", **make.HONEST}), errno.ENAMETOOLONG
    assert take_in(tmp_path, content) == (
        make.HONEST,
        ["xyz.py: cannot be written under this name (File name too long)"],
    )
    error = errno.ENOSPC  # the machine's fault, and nothing to take points for
    with pytest.raises(OSError, match="No space left"):
        take_in(tmp_path, content)


def test_tar_with_a_huge_long_name_is_refused(tmp_path):
    info = make.special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 30
    with pytest.raises(SubmissionRefused, match="longer than any name of a file"):
        take_in(tmp_path, info.tobuf() + bytes(10240), "submission.tar")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archive_of_100000_entries_is_refused(tmp_path, kind):
    if kind == "zip":
        content = make.raw_zip([(b"%d" % i, b"", {}) for i in range(100_000)])
    else:
        content = make.special("empty.py", tarfile.REGTYPE).tobuf() * 100_000
    with pytest.raises(SubmissionRefused, match="more than 50,000 files"):
        take_in(tmp_path, content, "submission.tar")


def test_zip_with_a_huge_directory_is_refused(tmp_path):
    name = b"n" * 60_000
    with pytest.raises(SubmissionRefused, match="directory is larger"):
        take_in(tmp_path, make.raw_zip([(name + b"%d" % i, b"", {}) for i in range(200)]))


@pytest.mark.parametrize("cut", [10, 100])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_cut_archive_is_refused_in_words(tmp_path, kind, cut):
    content = make.zip_of(make.HONEST) if kind == "zip" else make.tar_of(make.HONEST)
    with pytest.raises(SubmissionRefused, match=r"damaged|neither"):
        take_in(tmp_path, content[:cut])


# ---- any archive at all

names = st.one_of(
    st.sampled_from([*REFUSED_NAMES, *make.HONEST, "utils.py", "pkg/__init__.py", "a/common.py", "Common.py", ".", ""]),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.lists(st.sampled_from(["..", ".", "", "a", "common.py", "x.py", "~", "C:"]), max_size=5).map("/".join),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(names, max_size=8), kind=st.sampled_from(["zip", "tar"]), modes=st.lists(st.integers(0, 15)))
def test_archive_of_any_names_writes_nothing_outside_its_copy(tmp_path_factory, names, kind, modes):
    root = tmp_path_factory.mktemp("root")
    inside = root / "staging"
    inside.mkdir()
    (root / "submission.bin").write_bytes(
        make.zip_of(
            dict.fromkeys(names, b"x = 1\n"),
            {name: mode << 12 | 0o644 for name, mode in zip(names, modes, strict=False)},
        )
        if kind == "zip"
        else make.tar_of(dict.fromkeys(names, b"x = 1\n"))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(inside))
        try:
            with open_submission(root / "submission.bin") as intake:
                assert intake.folder.parent == inside
                for path in intake.folder.rglob("*"):
                    assert path.is_dir() or path.suffix == ".py" or path.name in ("manifest.json", "fcos_detector.pt")
                assert os.listdir(inside) == [intake.folder.name]
                assert all(note.isprintable() for note in intake.notes)
        except SubmissionRefused:
            pass  # no file that could be graded
    assert os.listdir(inside) == []
    assert sorted(os.listdir(root)) == ["staging", "submission.bin"]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_archive_with_flipped_bytes_is_taken_in_or_refused(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["zip", "tar", "tar.gz"]))
    files = {**make.HONEST, "pkg/utils.py": b"x = 1\n"}
    content = bytearray(
        make.zip_of(files) if kind == "zip" else make.tar_of(files, mode="w:gz" if "gz" in kind else "w")
    )
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("root") / f"submission.{kind}"
    path.write_bytes(content)
    message = ""
    try:
        with open_submission(path) as intake:
            assert copy_of(intake.folder)
    except SubmissionRefused as refused:
        message = str(refused)
    assert message.isprintable()
