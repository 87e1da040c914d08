"""Unpack archives that may come from anywhere: nothing is written outside of the target, and never more than agreed."""

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm.auto import tqdm

# One file inside an archive: its name, its size in bytes, and a function that opens it.
Entry = tuple[str, int, Callable[[], BinaryIO]]


class UnsafeArchive(ValueError):
    """An archive holds what must not be unpacked; the message names the entry."""


def unpack(archive: str | Path, target: str | Path, below: str, limit: int) -> int:
    """Unpack the files of one folder of an archive.

    Args:
        archive: a .tar (also compressed) or .zip file.
        target: folder to write to.
        below: only entries below a folder of this name are written, such as "VOCdevkit"; it may lie deeper in the
            archive, and becomes the first folder in `target`.
        limit: most bytes to write.

    Returns:
        How many files were written.

    Raises:
        UnsafeArchive: an entry is a link or a device, its path is absolute or has "..", or there is more than `limit`.
        ValueError: not an archive, or a damaged one.
    """
    archive, target = Path(archive), Path(target).resolve()
    written = files = 0
    try:
        with tqdm(desc=f"unpacking {archive.name}", unit="file") as bar:
            for name, size, open_entry in _entries(archive):
                inner = _inner_path(name, below)
                if inner is None:
                    continue
                written += size
                if written > limit:
                    raise UnsafeArchive(f"{archive} unpacks to more than {limit / 1e6:.0f} MB")
                _write(open_entry, size, target / inner, name)
                files += 1
                bar.update()
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the archive's
            raise
        raise ValueError(f"{archive} is damaged or not an archive: {error}") from error
    return files


def _inner_path(name: str, below: str) -> Path | None:
    """Where an entry goes in the target; `None` when it is not wanted."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise UnsafeArchive(f"the entry {name!r} points outside of the archive")
    if below not in path.parts or "__MACOSX" in path.parts or path.name.startswith("._"):
        return None
    return Path(*path.parts[path.parts.index(below) :])


def _write(open_entry: Callable[[], BinaryIO], size: int, path: Path, name: str) -> None:
    """Write one file; never through a link that lies there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileExistsError:
        raise UnsafeArchive(f"the entry {name!r} is there twice") from None
    left = size
    with open_entry() as source, os.fdopen(descriptor, "wb") as out:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise UnsafeArchive(f"the entry {name!r} is larger than it says")
            out.write(block)


def _entries(archive: Path) -> Iterator[Entry]:
    if zipfile.is_zipfile(archive):
        yield from _zip_entries(archive)
    else:
        yield from _tar_entries(archive)


def _zip_entries(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                raise UnsafeArchive(f"the entry {info.filename!r} is a link or a device")
            if info.flag_bits & 1:
                raise ValueError(f"{archive} is encrypted")
            yield info.filename, info.file_size, lambda info=info: opened.open(info)


def _tar_entries(archive: Path) -> Iterator[Entry]:
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isdir():
                continue
            if not member.isreg():
                raise UnsafeArchive(f"the entry {member.name!r} is a link or a device")
            yield member.name, member.size, lambda member=member: opened.extractfile(member)
