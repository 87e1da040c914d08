"""Lists what a handed-in folder or archive holds and reads single entries; it writes nothing and believes no header.

Whatever an archive claims, a parser is given no more than a bounded number of bytes of it.
"""

import gzip
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from autograder.errors import KitError
from autograder.tar_stream import TarError, members

MAX_ENTRIES = 50_000  # a course folder with the whole of VOC2007 in it has about 20,000
_TOO_MANY = f"more than {MAX_ENTRIES:,} files; hand in only your own"
MAX_NAMES = 8 << 20  # bytes of all names: they are kept while it is chosen what to copy
MAX_READ = 8 << 20  # one read of a parser: the directory of a zip with MAX_ENTRIES entries fits
MAX_UNPACKED = 1 << 30  # a tar has to be unpacked to be listed
MAX_RATIO = 200  # source code packs to a fifth, the most repetitive of it to a hundredth
RATIO_FROM = 1 << 20  # bytes below which the ratio harms nobody
MAX_DEPTH = 12  # folders within folders
CHUNK = 1 << 16
# Folders that tools leave behind: never looked into, one line of report for each.
LEFT_BEHIND = {"__MACOSX", "__pycache__", "node_modules", "site-packages", "venv", "env"}


class SubmissionRefused(KitError):
    """What was handed in cannot be taken in at all; the message is meant for the student."""


class EntryRefused(Exception):
    """One entry cannot be taken; the others can."""


@dataclass(frozen=True)
class Entry:
    """One file of a submission, as its container describes it.

    Attributes:
        name: with `/` between folders where the container does so; not cleaned.
        size: in bytes, as claimed.
        packed: bytes that it takes in a zip, as claimed; None elsewhere.
        refusal: why it is never opened, for example "a symbolic link"; empty for a plain file.
        open: gives its bytes; to be called before the next entry is taken.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]
    packed: int | None = None
    refusal: str = ""


def list_entries(path: Path) -> Iterator[Entry]:
    """List the files of a folder, a zip or a tar, whatever the file is called.

    Args:
        path: of the folder, the archive, or a single file.

    Returns:
        An iterator over entries, in the order of the archive; folders are sorted and links in them not followed.

    Raises:
        SubmissionRefused: not a container, damaged from its start, or one that only an attack or an accident makes.
    """
    if path.is_dir():
        return _counted(_walk(path, "", MAX_DEPTH))
    kind = archive_kind(path)
    if kind is None:
        raise SubmissionRefused("neither a folder nor a zip, tar or tar.gz")
    return _counted(_zip_entries(path) if kind == "zip" else _tar_entries(path))


def archive_kind(path: Path) -> str | None:
    """Return "zip" or "tar" from the first bytes of a file, None for anything else."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(512)
        if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            return "zip"
        if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
            return "tar"
        # A zip behind other bytes (self-extracting), and a tar from before 1988.
        return "zip" if zipfile.is_zipfile(file) else "tar" if path.suffix == ".tar" else None


def read_entry(entry: Entry, limit: int) -> Iterator[bytes]:
    """Read an entry piece by piece.

    Args:
        entry: as listed.
        limit: bytes that may come out, whatever was claimed.

    Returns:
        An iterator over its bytes, in pieces of at most CHUNK.

    Raises:
        EntryRefused: larger than allowed, damaged, encrypted, or unpacking to far more than it takes.
    """
    if entry.refusal:
        raise EntryRefused(entry.refusal)
    total = 0
    try:
        with entry.open() as source:
            while chunk := source.read(CHUNK):
                total += len(chunk)
                if total > limit:
                    raise EntryRefused(f"larger than {limit / 2**20:g} MiB")
                if entry.packed is not None and total > max(RATIO_FROM, MAX_RATIO * entry.packed):
                    raise EntryRefused(f"unpacks to more than {MAX_RATIO} times its size")
                yield chunk
    except _UNREADABLE as error:
        raise EntryRefused(f"cannot be read ({type(error).__name__})") from None


# What the parsers raise for a damaged entry.
_UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile)


def _counted(entries: Iterator[Entry]) -> Iterator[Entry]:
    names = 0
    for count, entry in enumerate(entries):
        names += len(entry.name.encode("utf-8", "surrogateescape"))
        if count == MAX_ENTRIES:
            raise SubmissionRefused(_TOO_MANY)
        if names > MAX_NAMES:
            raise SubmissionRefused(f"names of more than {MAX_NAMES >> 20} MiB; hand in only your own files")
        yield entry


def is_left_behind(folder: str) -> bool:
    """Whether a folder of this name belongs to a tool and not to the student."""
    return folder in LEFT_BEHIND or (folder.startswith(".") and folder not in (".", ".."))


# ---- folders


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[Entry]:
    try:
        found = sorted(os.scandir(folder), key=lambda item: item.name)
    except OSError as error:
        yield Entry(prefix, 0, _nothing, refusal=f"cannot be read ({error.strerror})")
        return
    for item in found:
        name = prefix + item.name
        status = item.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if is_left_behind(item.name) or depth == 0:
                yield Entry(name + "/", 0, _nothing, refusal="a folder that is not looked into")
            else:
                yield from _walk(folder / item.name, name + "/", depth - 1)
        elif stat.S_ISLNK(status.st_mode):
            yield Entry(name, 0, _nothing, refusal="a symbolic link")
        elif not stat.S_ISREG(status.st_mode):
            yield Entry(name, 0, _nothing, refusal="not a regular file")
        else:
            yield Entry(name, status.st_size, lambda path=folder / item.name: open_regular(path))


def open_regular(path: Path) -> BinaryIO:
    """Open a file that was a regular one when it was listed; a link or FIFO put in its place is not followed."""
    flags = [getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")]  # as far as the system has them
    descriptor = os.open(path, os.O_RDONLY | sum(flags))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return os.fdopen(descriptor, "rb")


def _nothing() -> BinaryIO:
    return io.BytesIO()


# ---- zip


class _ZipGuard:
    """A zip file as `zipfile` may see it: no read beyond MAX_READ, and names that it can decode."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close
        self.listing = True  # until the directory has been read

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(MAX_READ + 1 if size is None or size < 0 else min(size, MAX_READ + 1))
        if len(data) > MAX_READ:
            raise SubmissionRefused(f"its directory is larger than {MAX_READ >> 20} MiB")
        return _decodable(data) if self.listing and data[:4] == b"PK\x01\x02" else data


def _decodable(directory: bytes) -> bytes:
    """Clear the UTF-8 flag of names that are not UTF-8: `zipfile` would give up the whole archive for one of them."""
    fixed, at, count = bytearray(directory), 0, 0
    while directory[at : at + 4] == b"PK\x01\x02" and at + 46 <= len(directory):
        flags, name, extra, comment = struct.unpack_from("<8xH18x3H", directory, at)
        try:
            directory[at + 46 : at + 46 + name].decode("utf-8")
        except UnicodeDecodeError:
            struct.pack_into("<H", fixed, at + 8, flags & ~0x800)
        at, count = at + 46 + name + extra + comment, count + 1
        if count > MAX_ENTRIES:
            raise SubmissionRefused(_TOO_MANY)
    return bytes(fixed)


def _zip_entries(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        guard = _ZipGuard(file)
        try:
            archive = zipfile.ZipFile(guard)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            raise SubmissionRefused(f"a damaged zip ({error}); make it anew") from None
        guard.listing = False
        for info in archive.infolist():
            if not info.filename.endswith(("/", "\\")):
                yield Entry(
                    # The name as written: `filename` is cut at a null byte.
                    name=info.orig_filename,
                    size=info.file_size,
                    open=lambda info=info: archive.open(info),
                    packed=info.compress_size,
                    refusal=_zip_refusal(info),
                )


def _zip_refusal(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16 if info.create_system == 3 else 0  # 3 is Unix; elsewhere the bits mean other things
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "not a regular file"
    if info.flag_bits & 1:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"packed with method {info.compress_type}, which is not read here"
    return ""


# ---- tar


class _Unpacked:
    """An unpacked stream that is bounded in all, and by the size of what it was packed into."""

    def __init__(self, stream: BinaryIO, packed: BinaryIO):
        self._stream, self._packed, self._total = stream, packed, 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._total += len(data)
        if self._total > MAX_UNPACKED:
            raise SubmissionRefused(f"unpacks to more than {MAX_UNPACKED >> 20} MiB")
        # What was read ahead of the packed file only makes the ratio smaller.
        if self._total > max(RATIO_FROM, MAX_RATIO * self._packed.tell()):
            raise SubmissionRefused(f"unpacks to more than {MAX_RATIO} times its size")
        return data


def _tar_entries(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = _Unpacked(gzip.GzipFile(fileobj=file) if packed else file, file)
        try:
            for member in members(stream):
                if not member.is_folder:
                    yield Entry(member.name, member.size, lambda member=member: member, refusal=member.refusal)
        except (TarError, OSError, EOFError, zlib.error) as error:
            raise SubmissionRefused(f"a damaged tar ({error}); make it anew") from None
