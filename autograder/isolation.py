"""Chooses how strongly a worker is kept apart from everything else; `levels` says what each choice means."""

import functools
import tempfile
from pathlib import Path

from autograder.errors import KitError
from autograder.levels import Bubblewrap, OtherUser, Process
from autograder.mounts import binds

_CLASSES = {level.name: level for level in (Bubblewrap, OtherUser, Process)}
LEVELS = tuple(_CLASSES)  # the strongest first
_LEFT_OPEN = {
    "uid": "a submission sees the machine's public files and processes",
    "process": "a submission can read the files of the user who grades, solutions included, and write as that user",
}


def level_class(name: str) -> type[Process]:
    """Return the class of a level; `KitError` for an unknown name."""
    if name not in _CLASSES:
        raise KitError(f"isolation {name!r}: the levels are {', '.join(LEVELS)}")
    return _CLASSES[name]


def choose_level(wanted: str | None = None) -> tuple[str, str]:
    """Find the level to grade at.

    Args:
        wanted: a level that has to be had; None for the best that can.

    Returns:
        Its name, and a warning that belongs into output and results; empty when there is none.

    Raises:
        KitError: the wanted level cannot be had here, or is not the name of one.
    """
    if wanted is not None:
        level_class(wanted)
        problem, weakness = _probe(wanted)
        if problem:
            raise KitError(f"isolation {wanted} cannot be had here: {problem}")
        return wanted, weakness
    problems = []
    for name in LEVELS:
        problem, weakness = _probe(name)
        if not problem:
            break
        problems.append(f"{name} cannot be had here: {problem}")
    if not problems:
        return name, weakness
    return name, "; ".join([*problems, f"graded at {name}: {_LEFT_OPEN[name]}", *([weakness] if weakness else [])])


def exposed_at(name: str, folder: Path) -> str:
    """Return a warning when a submission can read a folder of held-out images at a level; empty when it cannot."""
    if name == Bubblewrap.name:
        exposed = any(folder.is_relative_to(bind.source) for bind in binds(submission="/dev/null"))
    else:  # names of files are no secret: whoever may pass through the folders can open them
        closed = any(not place.stat().st_mode & 0o001 for place in (folder, *folder.parents))
        exposed = name == Process.name or not closed
    return f"at {name} a submission can read the held-out images and their labels where they lie" if exposed else ""


@functools.lru_cache
def _probe(name: str) -> tuple[str, str]:
    """(why the level cannot be had, what it leaves open), tried once: the machine does not change under our feet."""
    with tempfile.TemporaryDirectory(prefix="kit-trial-") as place:
        level = level_class(name)(Path(place))
        problem = level.missing()
        return problem, "" if problem else level.weakness()
