"""Takes in what a student handed in: finds the two files in a folder or a zip and lays out a clean copy of them."""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from autograder.errors import KitError
from autograder.tasks import FILES

MAX_FILES = 2000
MAX_FILE_BYTES = 8 << 20
MAX_TOTAL_BYTES = 64 << 20


@dataclass
class Intake:
    """A submission ready for grading.

    Attributes:
        folder: a clean copy of its Python files, removed when the context ends.
        notes: one line for everything that was left out, or found in an unexpected place.
    """

    folder: Path
    notes: list[str] = field(default_factory=list)


@contextmanager
def open_submission(path: Path) -> Iterator[Intake]:
    """Lay out a submission's files.

    Args:
        path: a folder or a zip that holds `common.py` and `one_stage_detector.py`, at its top or one level down.

    Raises:
        KitError: there is nothing at `path`, or neither of the two files is in it.
    """
    if not path.exists():
        raise KitError(f"{path}: no such file or folder")
    with tempfile.TemporaryDirectory(prefix="kit-submission-") as staging:
        intake = Intake(Path(staging))
        if path.is_dir():
            files = {name: path / name for name in _names_in(path)}
            _lay_out(files, lambda source: source.read_bytes(), lambda source: source.stat().st_size, intake)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
                _lay_out(members, lambda info: _read(archive, info), lambda info: info.file_size, intake)
        else:
            raise KitError(f"{path}: neither a folder nor a zip")
        if not any((intake.folder / name).is_file() for name in FILES):
            raise KitError(f"{path}: holds neither {' nor '.join(FILES)}, at its top or one folder down")
        yield intake


def _names_in(folder: Path) -> list[str]:
    """Files at the top of a folder and one level down, as archives name them."""
    found = []
    for depth in ("*", "*/*"):
        for path in sorted(folder.glob(depth)):
            if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
                found.append(path.relative_to(folder).as_posix())
    return found[:MAX_FILES]


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        return member.read(MAX_FILE_BYTES + 1)


def _lay_out(files: dict, read, size, intake: Intake) -> None:
    """Copy the Python files that lie beside the two submission files."""
    top = _top_folder(files)
    total = 0
    for name, source in files.items():
        path = PurePosixPath(name)
        if path.suffix != ".py" or path.parent != top or path.name in ("", ".", ".."):
            continue
        if size(source) > MAX_FILE_BYTES or total + size(source) > MAX_TOTAL_BYTES:
            intake.notes.append(f"{name}: left out, larger than {MAX_FILE_BYTES >> 20} MiB")
            continue
        content = read(source)[:MAX_FILE_BYTES]
        total += len(content)
        (intake.folder / path.name).write_bytes(content)
    if top != PurePosixPath("."):
        intake.notes.append(f"files taken from the folder {top}/")


def _top_folder(files: dict) -> PurePosixPath:
    """The folder that holds the most of the two files; the top wins a tie."""
    candidates = sorted(
        {PurePosixPath(name).parent for name in files if len(PurePosixPath(name).parts) <= 2},
        key=lambda folder: (len(folder.parts), str(folder)),
    )
    counts = [sum(str(folder / name) in files for name in FILES) for folder in candidates]
    return candidates[counts.index(max(counts))] if counts else PurePosixPath(".")
