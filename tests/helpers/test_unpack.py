"""Unpacking: archives that want to write elsewhere, or more than agreed."""

import io
import tarfile
import tempfile
import zipfile

import pytest
from local_mirror import make_tar, make_zip

from helpers.unpack import UnsafeArchive, unpack

OUTSIDE = [
    "../evil",
    "VOCdevkit/../../evil",
    f"{tempfile.gettempdir()}/evil",
    "C:/evil",
    "VOCdevkit\\..\\..\\evil",
    "VOCdevkit/x/../../../evil",
]


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_path_that_leaves_the_target_is_refused(tmp_path, form, name):
    path = tmp_path / f"a.{form}"
    path.write_bytes((make_tar if form == "tar" else make_zip)({name: b"x"}))
    with pytest.raises(UnsafeArchive, match="outside"):
        unpack(path, tmp_path / "out", below="VOCdevkit", limit=100)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [path.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("VOCdevkit/link")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(UnsafeArchive, match="link or a device"):
        unpack(tmp_path / "a.tar", tmp_path / "out", below="VOCdevkit", limit=100)


def test_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        info = zipfile.ZipInfo("VOCdevkit/link")
        info.external_attr = 0o120777 << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeArchive, match="link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out", below="VOCdevkit", limit=100)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_more_bytes_than_agreed_are_refused(tmp_path, form):
    path = tmp_path / f"a.{form}"
    path.write_bytes((make_tar if form == "tar" else make_zip)({"VOCdevkit/a": bytes(80), "VOCdevkit/b": bytes(80)}))
    with pytest.raises(UnsafeArchive, match="more than"):
        unpack(path, tmp_path / "out", below="VOCdevkit", limit=100)


def test_entry_that_is_there_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for content in (b"one", b"two"):
            info = tarfile.TarInfo("VOCdevkit/a")
            info.size = 3
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(UnsafeArchive, match="twice"):
        unpack(tmp_path / "a.tar", tmp_path / "out", below="VOCdevkit", limit=100)


def test_entries_beside_the_wanted_folder_are_left_out(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip({"x/VOCdevkit/a": b"1", "readme": b"2", "other/b": b"3"}))
    assert unpack(tmp_path / "a.zip", tmp_path / "out", below="VOCdevkit", limit=100) == 1
    written = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert written == [tmp_path / "out/VOCdevkit/a"]
    assert written[0].read_bytes() == b"1"


def test_what_is_no_archive_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"a\.tar"):
        unpack(tmp_path / "a.tar", tmp_path / "out", below="VOCdevkit", limit=100)


def test_damaged_bytes_in_a_zip_are_an_error_that_names_it(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("VOCdevkit/a", bytes(range(256)) * 20)
        start = opened.fp.tell() - opened.infolist()[0].compress_size
    content = bytearray(path.read_bytes())
    content[start] = 0xFF  # a kind of block that deflate does not have
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip is damaged"):
        unpack(path, tmp_path / "out", below="VOCdevkit", limit=10_000)
