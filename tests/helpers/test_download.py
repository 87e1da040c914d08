"""VOC2007 on this machine: from a mirror, from Drive, or by hand; complete or not at all."""

import argparse
import json
from pathlib import Path

import pytest
from local_mirror import NAME, TIMEOUT, Server, make_tar, make_zip

from autograder.errors import KitError
from helpers import download
from helpers.annotations import read_split
from helpers.dataset import VOC2007DetectionTiny
from helpers.download import MANIFEST, DownloadError, download_voc2007
from helpers.sample import make_sample
from helpers.unpack import unpack
from tools import data


@pytest.fixture(scope="module")
def voc_files(tmp_path_factory) -> dict[str, bytes]:
    """A small VOCdevkit: the sample, without its own manifest."""
    root = make_sample(tmp_path_factory.mktemp("voc"), train=3, val=2)
    voc = root / "VOCdevkit" / "VOC2007"
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(voc.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def archive(voc_files) -> bytes:
    return make_tar(voc_files)


@pytest.fixture(scope="module")
def server(archive):
    server = Server(archive)
    yield server
    server.close()


@pytest.fixture
def manifest(server) -> dict:
    server.requests.clear()
    remote = server.remote()
    entry = {"file": NAME, "bytes": remote.size, "md5": remote.md5, "lists": {"train": 3, "val": 2}}
    return {"mirrors": [server.url("missing"), server.url("good")], "archives": {"trainval": entry}}


@pytest.fixture(autouse=True)
def no_mirror_of_the_class(monkeypatch):
    monkeypatch.delenv("FCOS_VOC_MIRROR", raising=False)
    monkeypatch.delenv("FCOS_VOC_ARCHIVE", raising=False)


def folder_content(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_download_unpacks_and_cleans_up(tmp_path, manifest, voc_files):
    root = download_voc2007(tmp_path / "new folder", timeout=TIMEOUT, manifest=manifest)
    assert folder_content(root) == voc_files
    assert len(read_split(root, "train")) == 3


def test_second_download_does_nothing(server, tmp_path, manifest):
    download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    server.requests.clear()
    download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    assert server.requests == []


def test_missing_image_is_noticed_and_repaired(tmp_path, manifest, voc_files):
    download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    next((tmp_path / "VOCdevkit/VOC2007/JPEGImages").iterdir()).unlink()
    download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    assert folder_content(tmp_path) == voc_files


def test_mirror_of_the_class_comes_first(server, tmp_path, manifest, monkeypatch):
    monkeypatch.setenv("FCOS_VOC_MIRROR", server.url("redirects"))
    download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    assert [folder for folder, _ in server.requests] == ["redirects", "good"]


def test_message_says_what_to_do_by_hand_when_every_mirror_fails(server, tmp_path, manifest):
    manifest["mirrors"] = [server.url("missing"), server.url("overloaded")]
    with pytest.raises(DownloadError) as error:
        download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    entry = manifest["archives"]["trainval"]
    for part in (
        "404",
        "503",
        NAME,
        entry["md5"],
        str(tmp_path),
        "FCOS_VOC_ARCHIVE",
        "--archive",
        "FCOS_VOC_MIRROR",
        manifest["mirrors"][1],
    ):
        assert part in str(error.value)


def test_archive_put_into_the_folder_by_hand_is_used_and_kept(server, tmp_path, manifest, voc_files, archive):
    (tmp_path / NAME).write_bytes(archive)
    download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    assert server.requests == []
    assert folder_content(tmp_path) == {**voc_files, NAME: archive}


def test_zip_put_into_the_folder_by_hand_is_used_and_kept(server, tmp_path, manifest, voc_files):
    (tmp_path / "VOC2007.zip").write_bytes(make_zip(voc_files))
    download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    assert server.requests == []
    assert folder_content(tmp_path) == {**voc_files, "VOC2007.zip": make_zip(voc_files)}


def test_archive_that_cannot_be_read_is_passed_over_and_an_error_by_name(
    tmp_path, manifest, voc_files, archive, monkeypatch, capsys
):
    def fail(*_):
        raise OSError(5, "Input/output error")  # as Drive does

    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / "VOC2007.zip").write_bytes(make_zip(voc_files))
    monkeypatch.setattr(
        download,
        "unpack",
        lambda place, *rest, **options: fail() if place.suffix == ".zip" else unpack(place, *rest, **options),
    )
    with pytest.raises(DownloadError, match="Input/output error"):
        download_voc2007(tmp_path, archive=tmp_path / "drive" / "VOC2007.zip", timeout=TIMEOUT, manifest=manifest)
    root = download_voc2007(tmp_path / "data", archive=tmp_path / "drive", timeout=TIMEOUT, manifest=manifest)
    assert folder_content(root) == voc_files
    assert "Input/output error; going on without it" in capsys.readouterr().out


# What lies in Drive: the original, a zip that somebody made, one made on a Mac of the folder around it.
DRIVES = {
    NAME: lambda files: make_tar(files),
    "VOC2007.zip": lambda files: make_zip(files),
    "my_voc.zip": lambda files: make_zip(
        {"my data/" + n: c for n, c in files.items()} | {"__MACOSX/my data/VOCdevkit/._x": b"junk"}
    ),
}


@pytest.mark.parametrize("named_by", ["file", "folder"])
@pytest.mark.parametrize("name", DRIVES)
def test_archive_in_another_folder_is_used(server, tmp_path, manifest, voc_files, name, named_by):
    drive = tmp_path / "My Drive"
    drive.mkdir()
    content = DRIVES[name](voc_files)
    (drive / name).write_bytes(content)
    (drive / "notes.zip").write_bytes(b"not for us")
    root = download_voc2007(
        tmp_path / "data", archive=drive / name if named_by == "file" else drive, timeout=TIMEOUT, manifest=manifest
    )
    assert folder_content(root) == voc_files
    assert (drive / name).read_bytes() == content
    assert server.requests == []


def test_archive_that_the_environment_names_serves_all_who_do_not_ask(server, tmp_path, manifest, archive, monkeypatch):
    drive = tmp_path / "My Drive"
    drive.mkdir()
    (drive / NAME).write_bytes(archive)
    monkeypatch.setenv("FCOS_VOC_ARCHIVE", str(drive))
    monkeypatch.setattr("helpers.download.MANIFEST", tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert len(VOC2007DetectionTiny(tmp_path / "data", "train", download=True)) == 3
    assert server.requests == []


def test_archive_of_the_other_images_that_the_environment_names_is_passed_over(server, tmp_path, manifest, monkeypatch):
    (tmp_path / "VOCtest_06-Nov-2007.tar").write_bytes(b"of the test images")
    monkeypatch.setenv("FCOS_VOC_ARCHIVE", str(tmp_path / "VOCtest_06-Nov-2007.tar"))
    download_voc2007(tmp_path / "data", timeout=TIMEOUT, manifest=manifest)
    assert server.requests[-1][0] == "good"


# name of an archive in a folder, whether it may hold the trainval images
NAMES = [
    ("pascal2007.zip", True),
    ("voc2007_latest.zip", True),
    ("VOCtest_06-Nov-2007.tar", False),
    ("voc2007-test.zip", False),
    ("VOC2012.zip", False),
    ("photos.zip", False),
    ("voc.txt", False),
]


@pytest.mark.parametrize(("name", "used"), NAMES)
def test_archive_in_a_folder_is_known_by_its_name(server, tmp_path, manifest, voc_files, name, used, capsys):
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / name).write_bytes(make_zip(voc_files))
    download_voc2007(tmp_path / "data", archive=tmp_path / "drive", timeout=TIMEOUT, manifest=manifest)
    assert (server.requests == []) == used
    if not used:
        passed_over = "there is no archive at all" if name == "voc.txt" else f"there are: {name}"
        assert f"with VOC or pascal in its name; {passed_over}" in capsys.readouterr().out


@pytest.mark.parametrize("name", [NAME, "VOC2007.zip"])
def test_damaged_archive_is_an_error_by_name_and_passed_over_in_a_folder(tmp_path, manifest, voc_files, name, capsys):
    drive = tmp_path / "drive"
    drive.mkdir()
    (drive / name).write_bytes(DRIVES[name](voc_files)[:-3000])
    with pytest.raises(DownloadError, match=name):
        download_voc2007(tmp_path / "data", archive=drive / name, timeout=TIMEOUT, manifest=manifest)
    assert list((tmp_path / "data").iterdir()) == []
    root = download_voc2007(tmp_path / "data", archive=drive, timeout=TIMEOUT, manifest=manifest)
    assert folder_content(root) == voc_files
    assert name in capsys.readouterr().out


def test_archive_with_too_few_images_is_refused(tmp_path, manifest, voc_files):
    few = {name: content for name, content in voc_files.items() if not name.endswith("000002.jpg")}
    (tmp_path / "voc.zip").write_bytes(make_zip(few))
    with pytest.raises(DownloadError, match=r"whole of VOC2007: expected 3 images in train\.txt, 2 images in val\.txt"):
        download_voc2007(tmp_path / "data", archive=tmp_path / "voc.zip", timeout=TIMEOUT, manifest=manifest)
    assert list((tmp_path / "data").iterdir()) == []


def test_archive_that_is_nowhere_is_an_error(tmp_path, manifest):
    with pytest.raises(DownloadError, match="no archive and no folder"):
        download_voc2007(tmp_path, archive=tmp_path / "nowhere", manifest=manifest)


def test_full_disk_is_said_before_the_download(server, tmp_path, manifest, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(DownloadError, match=r"needs \d+ MB .* 0 MB are free"):
        download_voc2007(tmp_path, timeout=TIMEOUT, manifest=manifest)
    assert server.requests == []


def test_sample_is_not_mixed_with_voc2007(tmp_path, manifest):
    make_sample(tmp_path, train=2, val=1)
    with pytest.raises(DownloadError, match="generated sample"):
        download_voc2007(tmp_path, manifest=manifest)


def test_manifest_of_the_kit_is_complete():
    manifest = json.loads(MANIFEST.read_text())
    assert len(manifest["mirrors"]) >= 4
    for entry in manifest["archives"].values():
        assert entry["bytes"] % 10240 == 0  # tar writes records of 20 blocks of 512 bytes
        assert len(entry["md5"]) == 32


def test_command_reports_a_failed_download_in_its_own_words(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise DownloadError("no mirror gave it")

    monkeypatch.setattr("helpers.download.download_voc2007", fail)
    parser = argparse.ArgumentParser()
    data.configure(parser)
    with pytest.raises(KitError, match="no mirror gave it"):
        data.run(parser.parse_args(["voc2007", "--root", str(tmp_path)]))
