"""PASCAL VOC 2007 on this machine: from an archive that is there already, or from the first mirror that has it."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from helpers.fetch import DownloadError, RemoteFile, fetch, is_intact
from helpers.leftovers import remove_leftovers
from helpers.unpack import unpack

MANIFEST = Path(__file__).resolve().parents[1] / "data" / "manifest.json"
MIRROR_VARIABLE = "FCOS_VOC_MIRROR"
ARCHIVE_VARIABLE = "FCOS_VOC_ARCHIVE"
ARCHIVE_ENDINGS = (".tar", ".zip", ".tar.gz", ".tgz", ".tar.bz2")
# VOC's archives are not compressed; some room for those that are, and for blocks of the disk.
UNPACKED_FACTOR = 1.3

__all__ = ["DownloadError", "download_voc2007", "is_complete"]


def download_voc2007(
    root: str | Path,
    which: str = "trainval",
    archive: str | Path | None = None,
    timeout: float = 20.0,
    manifest: Mapping | None = None,
) -> Path:
    """Put VOC2007 into a folder; does nothing when it is there.

    The addresses in the environment variable `FCOS_VOC_MIRROR` (one, or several with spaces between them) are tried
    before the public mirrors. A broken-off download is continued by the next call.

    Args:
        root: folder that will hold `VOCdevkit/`; on Colab one on the local disk, not on Drive.
        which: "trainval" or "test".
        archive: a .tar or .zip with VOCdevkit in it, or a folder to look for one in, such as one on Drive; `None`
            takes what the environment variable `FCOS_VOC_ARCHIVE` names, if it is set.
        timeout: seconds after which a silent mirror is given up.
        manifest: what to get, in the form of `data/manifest.json`; `None` reads that file.

    Returns:
        `root` as a path, ready for `VOC2007DetectionTiny(root)`.

    Raises:
        DownloadError: it could not be had; the message says how to do it by hand.
    """
    root = Path(root)
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8")) if manifest is None else manifest
    wanted = manifest["archives"][which]
    file = RemoteFile(wanted["file"], wanted["bytes"], wanted["md5"])
    if (root / "VOCdevkit" / "sample.json").exists():
        raise DownloadError(f"{root} holds the generated sample; name another folder for VOC2007")
    if is_complete(root, wanted["lists"]):
        return root
    root.mkdir(parents=True, exist_ok=True)

    given = archive is not None and Path(archive).is_file()
    # The original itself, put into `root`, is what `fetch` looks for first.
    put_there = [path for path in _archives_in(root, file) if path.name != file.name]
    for candidate in [Path(archive)] if given else [*_archives_there(archive, file), *put_there]:
        try:
            # Under its own name it must be the original; any other is judged by what is in it.
            if candidate.name == file.name and not is_intact(candidate, file):
                raise DownloadError(f"{candidate} is damaged or incomplete: size or MD5 sum are wrong")
            _install(candidate, root, wanted["lists"], most_bytes=4 * file.size)
            return root
        except (DownloadError, OSError) as error:  # a file on Drive may be there and not be readable
            if given:
                raise DownloadError(str(error)) from error
            print(f"{error}; going on without it")

    mirrors = [*os.environ.get(MIRROR_VARIABLE, "").split(), *manifest["mirrors"]]
    put_here_by_hand = (root / file.name).is_file()
    there = max((p.stat().st_size for p in root.glob(f"{file.name}*")), default=0)
    _check_space(root, file.size * (1 + UNPACKED_FACTOR) - there)
    try:
        fetched = fetch(file, mirrors, root, timeout)
    except DownloadError as error:
        raise DownloadError(f"{error}\n{_by_hand(file, root, mirrors)}") from error
    _install(fetched, root, wanted["lists"], most_bytes=4 * file.size)
    if not put_here_by_hand:
        fetched.unlink()
    return root


def is_complete(root: str | Path, lists: Mapping[str, int]) -> bool:
    """Tell whether a folder holds VOC2007 with all images and annotations of some lists.

    Args:
        root: folder with `VOCdevkit/`.
        lists: name of a list in `ImageSets/Main` -> how many images it has.

    Returns:
        Whether every list has that many images, and each of them a picture and an annotation.
    """
    voc = Path(root) / "VOCdevkit" / "VOC2007"
    try:
        pictures = set(os.listdir(voc / "JPEGImages"))
        annotations = set(os.listdir(voc / "Annotations"))
        for name, count in lists.items():
            ids = (voc / "ImageSets" / "Main" / f"{name}.txt").read_text().split()
            if len(ids) != count or not all(f"{i}.jpg" in pictures and f"{i}.xml" in annotations for i in ids):
                return False
    except OSError:
        return False
    return True


def _archives_there(place: str | Path | None, file: RemoteFile) -> list[Path]:
    """Archives whose names say that they may be the right one, in the folder that the caller or the variable names."""
    place = place or os.environ.get(ARCHIVE_VARIABLE)
    if not place:
        return []
    archive = Path(place)
    if not archive.exists():
        raise DownloadError(f"there is no archive and no folder {archive}")
    if archive.is_file():  # of the environment; it may be the one for the other images
        return [archive] if _names_test(archive.name) == _names_test(file.name) else []
    found = _archives_in(archive, file)
    if not found:
        names = [p.name for p in sorted(archive.iterdir()) if p.name.lower().endswith(ARCHIVE_ENDINGS)]
        others = f"there are: {', '.join(names)}" if names else "there is no archive at all"
        print(f"{archive}: no .tar or .zip with VOC or pascal in its name; {others}")
    return found


def _archives_in(folder: Path, file: RemoteFile) -> list[Path]:
    """Archives in a folder that may be the right one, the original first."""
    archives = [p for p in sorted(folder.iterdir()) if p.name.lower().endswith(ARCHIVE_ENDINGS)]
    found = [p for p in archives if _may_be(p.name.lower(), file.name.lower())]
    return sorted(found, key=lambda p: p.name != file.name)


def _may_be(name: str, wanted: str) -> bool:
    """Tell by its name whether an archive may hold what is wanted: one of the test images never holds trainval."""
    is_voc = re.search("voc|pascal", name) is not None and "2012" not in name
    return is_voc and _names_test(name) == _names_test(wanted)


def _names_test(name: str) -> bool:
    return re.search("(?<![a-z])test|voctest", name.lower()) is not None


def _check_space(root: Path, needed: float) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise DownloadError(f"VOC2007 needs {needed / 1e6:.0f} MB in {root}, but only {free / 1e6:.0f} MB are free")


def _install(archive: Path, root: Path, lists: Mapping[str, int], most_bytes: int) -> None:
    """Unpack beside the final place, look whether it is all there, and move it; the lists come last.

    So whoever finds the lists finds the images that they name, also when this was interrupted.
    """
    _check_space(root, archive.stat().st_size * UNPACKED_FACTOR)
    remove_leftovers(root, ".unpacking-*")
    work = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=root))
    try:
        unpack(archive, work, below="VOCdevkit", limit=most_bytes)
        if not is_complete(work, lists):
            counts = ", ".join(f"{count} images in {name}.txt" for name, count in lists.items())
            raise DownloadError(f"{archive} does not hold the whole of VOC2007: expected {counts}, with annotations")
        source, target = work / "VOCdevkit" / "VOC2007", root / "VOCdevkit" / "VOC2007"
        files = sorted((p for p in source.rglob("*") if p.is_file()), key=lambda p: ("ImageSets" in p.parts, p))
        for path in files:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
    except ValueError as error:
        raise DownloadError(str(error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _by_hand(file: RemoteFile, root: Path, mirrors: list[str]) -> str:
    addresses = "\n".join(f"  {mirror.rstrip('/')}/{file.name}" for mirror in mirrors)
    return (
        f"By hand: get {file.name} ({file.size / 1e6:.0f} MB, MD5 {file.md5}) with a browser from one of\n{addresses}\n"
        f"or from your course, put it into {root.resolve()} and try again. If it lies elsewhere, set the "
        f"environment variable {ARCHIVE_VARIABLE} to that file or its folder (or use `kit data voc2007 --archive`); if "
        f"your course has a mirror, set {MIRROR_VARIABLE} to its address."
    )
