"""Takes in what a student handed in: chooses the files that are graded and lays out a clean copy of them.

Graded are `common.py` and `one_stage_detector.py`; Python files and packages beside them come along. Everything else is
left out and named in a note, so that no student wonders why a file played no part.
"""

import errno
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from autograder.archives import (
    Entry,
    EntryRefused,
    SubmissionRefused,
    archive_kind,
    is_left_behind,
    list_entries,
    open_regular,
    read_entry,
)
from autograder.errors import KitError
from autograder.filenames import ARCHIVE, assigned_file, clean_name, numbers_in, shown, visible, why_left_out
from autograder.notes import Notes
from autograder.sources import source_problem
from autograder.tasks import FILES

MANIFEST, WEIGHTS = "manifest.json", "fcos_detector.pt"
# Bytes of one file, as `helpers.submission` tells students before the deadline; a manifest lists names and hashes.
MAX_SOURCE_BYTES, MAX_WEIGHTS_BYTES, MAX_MANIFEST_BYTES = 1 << 20, 200 << 20, 64 << 10
_DATA = {MANIFEST: MAX_MANIFEST_BYTES, WEIGHTS: MAX_WEIGHTS_BYTES}
# What file systems say of names that are not for them: too long, of a form that they do not take, or there already.
_ABOUT_NAMES = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST}
MAX_EXTRA_FILES, MAX_EXTRA_BYTES = 500, 8 << 20  # what may come along beside the two files


@dataclass
class Intake:
    """A submission ready for grading.

    Attributes:
        folder: a clean copy of its Python files, and of the weights and the manifest where there are some; removed when
            the context ends. The weights have been measured and not opened.
        notes: one line for what was left out, or found in an unexpected place or form; of many files, one for all.
        left_out: one line for every file that plays no part.
    """

    folder: Path
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@contextmanager
def open_submission(paths: Path | Sequence[Path]) -> Iterator[Intake]:
    """Lay out a submission's files.

    Args:
        paths: a folder, zip, tar or tar.gz that holds the two files, at its top or in a folder of it; or single files.

    Raises:
        SubmissionRefused: neither of the two files is there, or the archive is damaged or hostile; for the student.
        KitError: there is nothing at a path.
    """
    paths = [paths] if isinstance(paths, Path) else list(paths)
    for path in paths:
        if not path.exists():
            raise KitError(f"{path}: no such file or folder")
    # What the submission does to its copy while it is graded must not keep this from ending.
    with tempfile.TemporaryDirectory(prefix="kit-submission-", ignore_cleanup_errors=True) as staging:
        folder = Path(staging)
        folder.chmod(0o755)  # the worker may run as another user, who has to read here
        try:
            notes = _lay_out(paths, folder)
        except SubmissionRefused as refused:
            raise SubmissionRefused(f"{shown(paths[0].resolve().name)}: {visible(str(refused))}") from None
        yield Intake(folder, notes.lines(), notes.left_out())


def read_manifest(paths: Path | Sequence[Path]) -> bytes | None:
    """Return the bytes of a submission's manifest, from its top or one folder down; None where none can be read."""
    paths = [paths] if isinstance(paths, Path) else list(paths)
    try:
        for entry in _container(paths, Notes())():
            path, _ = clean_name(entry.name)
            if path is not None and path.name == MANIFEST and len(path.parts) <= 2:
                return b"".join(read_entry(entry, MAX_MANIFEST_BYTES))
    except (KitError, EntryRefused):
        pass
    return None


def _lay_out(paths: list[Path], folder: Path) -> Notes:
    """Fill `folder` with the clean copy; say what there is to say."""
    notes = Notes()
    entries = _container(paths, notes)
    plan = _plan(list(entries()), notes)
    _copy(entries(), plan, folder, notes)
    present = [name for name in FILES if (folder / name).is_file()]
    if not present:
        archives = [f"{line}; hand in the files themselves" for line in notes.left_out() if line.endswith(ARCHIVE)]
        reasons = "; ".join((archives or notes.lines())[:3])
        raise SubmissionRefused(f"holds neither {' nor '.join(FILES)}" + (f" ({reasons})" if reasons else ""))
    for name in FILES:
        notes.say(source_problem(name, (folder / name).read_bytes()) if name in present else f"{name}: missing")
    return notes


def _container(paths: list[Path], notes: Notes) -> Callable[[], Iterator[Entry]]:
    """Return a function that lists the entries, afresh at each call: first to plan, then to copy."""
    if len(paths) == 1 and paths[0].suffix.lower() != ".py":
        path = _only_archive_in(paths[0]) or paths[0]
        if path != paths[0]:
            notes.say(f"files taken from {shown(path.name)}")
        return lambda: list_entries(path)
    if unusual := [path for path in paths if path.suffix.lower() != ".py" or not path.is_file()]:
        raise KitError(f"{unusual[0]}: name one folder or archive, or .py files alone")
    return lambda: (Entry(path.name, path.stat().st_size, partial(open_regular, path)) for path in paths)


def _only_archive_in(folder: Path) -> Path | None:
    """Return the archive that is all there is in a folder: so Moodle and mail programs put a submission into one."""
    try:
        files = [item for item in folder.iterdir() if not item.name.startswith(".")] if folder.is_dir() else []
        archives = [item for item in files if not item.is_symlink() and archive_kind(item)]
    except OSError as error:
        raise SubmissionRefused(f"cannot be read ({error.strerror})") from None
    return (
        archives[0] if len(archives) == 1 and not any(item.is_dir() or item.suffix == ".py" for item in files) else None
    )


@dataclass(frozen=True)
class _Place:
    """Where an entry goes in the clean copy, and how many bytes it may have there."""

    path: PurePosixPath
    limit: int
    extra: bool = False  # one of the files that come along


def _usable(entries: list[Entry], notes: Notes) -> dict[int, PurePosixPath]:
    """Return the paths of plain files with proper names outside the folders of tools, by the entries' index."""
    paths = {}
    for index, entry in enumerate(entries):
        path, problem = clean_name(entry.name)
        folders = path.parts[:-1] if path else ()
        left_behind = next((depth for depth, name in enumerate(folders, start=1) if is_left_behind(name)), 0)
        if left_behind:
            notes.leave_out_folder(PurePosixPath(*folders[:left_behind]), "left behind by a tool")
        elif problem or entry.refusal:
            notes.leave_out(path or entry.name, problem or entry.refusal)
        else:
            paths[index] = path
    return paths


def _plan(entries: list[Entry], notes: Notes) -> dict[int, _Place]:
    """Choose the entries to copy, by their index."""
    paths = _usable(entries, notes)
    top = _top_folder(paths.values())
    if top != PurePosixPath("."):
        notes.say(f"files taken from the folder {shown(top)}/")
    plan: dict[int, _Place] = {}
    for name in FILES:
        index = _find(name, paths, top, notes)
        if index is not None:
            plan[index] = _Place(PurePosixPath(name), MAX_SOURCE_BYTES)
    taken: set[str] = set()  # without regard to case, as file systems may be
    for index, path in paths.items():
        if index in plan or path in (top / name for name in FILES):
            continue
        if not path.is_relative_to(top):
            notes.leave_out(path, f"outside the folder {shown(top)}/")
            continue
        path = path.relative_to(top)
        if assigned_file(path.name) and len(path.parts) == 1:
            notes.leave_out(path, f"another file counts as {assigned_file(path.name)}")
        elif str(path) not in _DATA and (reason := why_left_out(path)):
            notes.leave_out(path, reason)
        elif (key := unicodedata.normalize("NFKC", str(path)).casefold()) in taken:
            notes.leave_out(path, "a second file of that name; the first counts")
        elif len(taken) == MAX_EXTRA_FILES:
            notes.leave_out(path, f"more than {MAX_EXTRA_FILES} files; the first count")
        else:
            taken.add(key)
            plan[index] = _Place(path, _DATA.get(str(path), MAX_SOURCE_BYTES), extra=str(path) not in _DATA)
    return plan


def _top_folder(paths) -> PurePosixPath:
    """Return the folder with the most of the two files: by exact names, then by similar ones, then the highest."""
    found: dict[PurePosixPath, tuple[set, set]] = {}
    for path in paths:
        if file := assigned_file(path.name):
            exact, similar = found.setdefault(path.parent, (set(), set()))
            similar.add(file)
            exact.update({path.name} & set(FILES))
    if not found:
        return PurePosixPath(".")
    return min(
        found, key=lambda folder: (-len(found[folder][0]), -len(found[folder][1]), len(folder.parts), str(folder))
    )


def _find(name: str, paths: dict[int, PurePosixPath], top: PurePosixPath, notes: Notes) -> int | None:
    """Return the index of the entry that is one of the two files, or None."""
    exact = [index for index, path in paths.items() if path == top / name]
    if exact:
        if len(exact) > 1:
            notes.say(f"{name}: {len(exact)} times in the archive; the last counts")
        return exact[-1]  # as whoever unpacks the archive would have it
    similar = {index: path for index, path in paths.items() if assigned_file(path.name) == name}
    beside = [index for index, path in similar.items() if path.parent == top]
    if beside:
        chosen = max(beside, key=lambda index: (numbers_in(similar[index].name), similar[index].name))
    elif len(similar) == 1:
        (chosen,) = similar
    else:
        return None
    notes.say(f"{shown(similar[chosen])}: taken as {name}")
    return chosen


def _copy(entries: Iterator[Entry], plan: dict[int, _Place], folder: Path, notes: Notes) -> None:
    """Write the planned entries, and nothing else, below `folder`."""
    extra_bytes = 0
    for index, entry in enumerate(entries):
        if index not in plan:
            continue
        place = plan[index]
        if place.extra and extra_bytes >= MAX_EXTRA_BYTES:
            notes.leave_out(place.path, f"more than {MAX_EXTRA_BYTES >> 20} MiB of files beside the two")
            continue
        # Every part of the path is a Python identifier or a name of ours, so it cannot lead out of the folder.
        target = folder / place.path
        try:
            file = _new_file(target, folder)
        except OSError as error:
            if error.errno not in _ABOUT_NAMES:  # a full disk, say, is not the student's
                raise
            notes.leave_out(place.path, f"cannot be written under this name ({error.strerror})")
            continue
        try:
            with file:
                for chunk in read_entry(entry, place.limit):
                    file.write(chunk)
                    extra_bytes += len(chunk) if place.extra else 0
            target.chmod(0o644)
        except EntryRefused as error:
            target.unlink()
            notes.leave_out(place.path, str(error))


def _new_file(target: Path, folder: Path) -> BinaryIO:
    """Open a file that is not there yet, with the folders above it up to `folder`."""
    for parent in reversed(target.relative_to(folder).parents[:-1]):
        (folder / parent).mkdir(exist_ok=True)
        (folder / parent).chmod(0o755)  # as the folder itself
    return target.open("xb")
