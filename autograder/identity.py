"""Finds the submissions in a class folder and works out whose they are.

Who a submission belongs to is decided by whoever collected it: by the names of Canvas and Gradescope, or the name
of the folder or archive. The manifest inside is written by the student, so it may name a submission but never displace
another one.
"""

import hashlib
import itertools
import json
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from autograder.archives import archive_kind
from autograder.errors import KitError
from autograder.filenames import ARCHIVES, shown
from autograder.intake import read_manifest
from autograder.tasks import FILES

# Last_First_123456_assignment.zip, doejane_LATE_123456_7891011_assignment-1.zip: the student's number, then perhaps the
# upload's; "-1" marks a second upload.
_CANVAS = re.compile(
    r"(?P<who>[^\W\d][^_]*(?:_[^\W\d][^_]*)*?)(?:_(?P<late>LATE))?_(?P<id>\d{3,})(?:_(?P<upload>\d+))?_(?P<file>.+)"
)
_GRADESCOPE = re.compile(r"submission_(?P<id>\d+)")
_COPY = re.compile(r"(?: ?\((?P<browser>\d+)\)|-(?P<canvas>\d+))$")
_MOST_LETTERS, _MOST_BYTES = 80, 150  # of an id; with what files of results add to it, a system allows 255 bytes
_STUDENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,31}")  # as `helpers.submission` asks for


@dataclass(frozen=True)
class Submission:
    """What is graded for one student.

    Attributes:
        id: of the student; fit for a file name, and no other submission of the class has it in any case.
        paths: one folder or archive, or .py files that were handed in together.
        source: its name in the class folder.
        late: whether Canvas marked it so.
        members: ids of the students that its manifest names, where the manifest decides whose it is; else none.
    """

    id: str
    paths: tuple[Path, ...]
    source: str
    late: bool = False
    members: tuple[str, ...] = ()


@dataclass
class ClassFolder:
    """What was found in a class folder.

    Attributes:
        submissions: sorted by id; one for each student.
        superseded: {"id", "source", "counts"}: an older submission, and the one that counts in its place.
        notes: one line for each file that is no submission, and for ids in doubt.
    """

    submissions: list[Submission] = field(default_factory=list)
    superseded: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Found:
    """One submission before it is clear whose it is."""

    paths: list[Path]
    name: str  # without the suffixes of an archive
    id: str = ""  # from a name that Canvas or Gradescope made
    who: str = ""
    upload: int = 0
    late: bool = False
    members: tuple[str, ...] = ()  # as its manifest names them

    @property
    def age(self) -> tuple:
        """Sorts submissions of one student, the newest last."""
        copy = _COPY.search(self.name)
        number = int(copy["browser"] or copy["canvas"]) if copy else 0
        return self.upload, number, max(path.stat().st_mtime for path in self.paths), self.late, self.name

    @property
    def source(self) -> str:
        return ", ".join(shown(path.name) for path in self.paths)


def find_submissions(folder: Path, leave_out: Path | None = None) -> ClassFolder:
    """List the submissions of a class: every folder and archive, and the .py files that Canvas gives one by one.

    Args:
        folder: an export of Canvas or Gradescope, or any folder with one folder or archive for each student.
        leave_out: a folder that is no submission, whatever it holds: the one for results.

    Raises:
        KitError: there is no such folder, or no submission in it.
    """
    if not folder.is_dir():
        raise KitError(f"{folder}: no such folder" if not folder.exists() else f"{folder}: not a folder")
    result = ClassFolder()
    found = _list(folder, leave_out, result.notes)
    if not found:
        if any((folder / name).is_file() for name in FILES):
            raise KitError(f"{folder}: this is one submission, not a class; use: kit grade {folder}")
        raise KitError(f"{folder}: holds no submission; expected one folder or archive for each student")
    for student, group in sorted(_by_student(found, result.notes).items()):
        *older, newest = sorted(group, key=lambda one: one.age)
        one = Submission(student, tuple(newest.paths), newest.source, newest.late, newest.members)
        result.submissions.append(one)
        result.superseded += [{"id": student, "source": one.source, "counts": newest.source} for one in older]
    return result


def _list(folder: Path, leave_out: Path | None, notes: list[str]) -> list[_Found]:
    found, loose = [], {}
    for path in sorted(folder.iterdir()):
        if (
            path.name.startswith(".")
            or path.name == "__MACOSX"
            or (leave_out and path.resolve() == leave_out.resolve())
        ):
            continue
        is_source = path.suffix.lower() == ".py" and path.is_file()
        is_archive = path.is_file() and (path.name.lower().endswith(ARCHIVES) or archive_kind(path) is not None)
        if path.is_symlink() or not (path.is_dir() or is_source or is_archive):
            notes.append(f"{shown(path.name)}: not a submission")
            continue
        name = path.name if path.is_dir() else _without_suffix(path.name)
        one = _Found([path], name)
        if (match := _CANVAS.fullmatch(name)) and not _named_by_students(path, name):
            one.id, one.who, one.late = match["id"], match["who"], bool(match["late"])
            one.upload, one.name = int(match["upload"] or 0), match["file"]
        elif match := _GRADESCOPE.fullmatch(name):
            one.id = match["id"]
        if not is_source:
            found.append(one)
        elif not one.id:
            notes.append(f"{shown(path.name)}: not a submission; a student's files belong in one folder")
        elif (one.who, one.id) in loose:
            group = loose[one.who, one.id]
            group.paths.append(path)
            group.upload, group.late = max(group.upload, one.upload), group.late or one.late
        else:
            loose[one.who, one.id] = one
    return found + list(loose.values())


def _named_by_students(path: Path, name: str) -> bool:
    """Whether the notebook gave the name: after an id such as "s_1234567" it looks like one of Canvas."""
    return _COPY.sub("", name) == f"{'+'.join(_claimed_ids([path]))}_fcos"


def _by_student(found: list[_Found], notes: list[str]) -> dict[str, list[_Found]]:
    """Give every submission an id. Those with the same one are of the same student."""
    named: dict[str, list[_Found]] = defaultdict(list)
    for one in found:
        if one.id:
            named[one.id].append(one)
    shared_by_all = len(named) == 1
    for number, group in list(named.items()):
        # "homework_2024_alice.zip": a number that several people share, or the whole class, is not a student's.
        if len({one.who for one in group}) > 1 or (shared_by_all and len(group) > 2):
            del named[number]
            for one in group:
                one.name = _without_suffix(one.paths[0].name)
    for number, group in named.items():
        members = _claimed_ids(max(group, key=lambda one: one.age).paths)
        if len(members) > 1:  # these may be ids of another kind than those in the platform's names
            names = ", ".join(members)
            notes.append(f"{number}: its manifest names {names}; if they are a group, name it with --groups")
    plain: dict[str, list[_Found]] = defaultdict(list)
    for one in found:
        if one not in named.get(one.id, ()):
            plain[one.name].append(one)
    claims: dict[str, dict[str, list[_Found]]] = defaultdict(lambda: defaultdict(list))
    bearers: dict[str, list[_Found]] = defaultdict(list)  # of a name, whatever their manifests say
    for name, group in plain.items():
        newest = max(group, key=lambda one: one.age)
        newest.members = _claimed_ids(newest.paths)
        claim, own = "+".join(newest.members), name.removesuffix("_fcos")
        claims[claim or own][_COPY.sub("", name) if claim else name] += group
        bearers[own.casefold()] += group
    for student, by_name in claims.items():
        claimants = [one for group in by_name.values() for one in group]
        others = list(named.get(student, ()))
        if any(one.members for one in claimants):
            others += [one for one in bearers[student.casefold()] if one not in claimants]
        if len(by_name) == 1 and not others:
            named[student] = claimants
            continue
        sources = dict.fromkeys(one.source for one in [*claimants, *others])
        notes.append(f"{shown(student)}: claimed by {', '.join(sources)}; graded apart, decide by hand")
        for name, group in by_name.items():
            for one in group:
                one.members = ()
            named[_free(name, group[0].source, named)] = group
    result = _fit_for_files(named)
    assert sorted(map(id, found)) == sorted(id(one) for group in result.values() for one in group), "none is lost"
    return result


def _free(name: str, source: str, named: dict[str, list[_Found]]) -> str:
    """Return a name that no other submission has."""
    numbered = (f"{source} ({number})" for number in itertools.count(2))
    return next(one for one in itertools.chain([name, source], numbered) if one not in named)


def _claimed_ids(paths: list[Path]) -> tuple[str, ...]:
    """Return the students in a submission's own manifest, if it is a proper one."""
    content = read_manifest(paths)
    try:
        ids = json.loads(content or b"null")["student_ids"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    proper = isinstance(ids, list) and 0 < len(ids) <= 8
    if not proper or not all(isinstance(one, str) and _STUDENT_ID.fullmatch(one) for one in ids):
        return ()
    return tuple(sorted(set(ids)))


def _fit_for_files(named: dict[str, list[_Found]]) -> dict[str, list[_Found]]:
    """Make every id a file name on every system, different from all others even without regard to case."""
    result: dict[str, list[_Found]] = {}
    taken: set[str] = set()
    for name, group in sorted(named.items()):
        plain = re.sub(r"[^\w.+-]+", "_", unicodedata.normalize("NFC", name)).strip("._-")[:_MOST_LETTERS]
        plain = plain.encode()[:_MOST_BYTES].decode(errors="ignore")
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        others = (f"{plain or 'submission'}-{digest[:length]}" for length in range(8, len(digest) + 1))
        possible = itertools.chain([plain], others) if plain == name else others
        student = next(one for one in possible if one.casefold() not in taken)
        taken.add(student.casefold())
        result[student] = group
    return result


def _without_suffix(name: str) -> str:
    return re.sub(r"\.(py|zip|tar|tgz|tar\.\w+|7z|rar|gz)$", "", name, flags=re.IGNORECASE)
