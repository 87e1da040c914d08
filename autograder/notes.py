"""Collects what is said about a submission's files: what a person should read, and a list of all that is left out."""

from collections import Counter
from pathlib import PurePosixPath

from autograder.filenames import ORDINARY, shown

MAX_LINES, MAX_LEFT_OUT = 60, 1000
MAX_ORDINARY = 3  # files of the ordinary kinds that are named one by one
_FOLD_FROM = 10  # files of one folder, left out for one reason, from which one line is enough


class Notes:
    """The notes of one submission. Every name in them is shown in visible characters only."""

    def __init__(self):
        self._said: list[str] = []
        self._files: dict[tuple[str, str], list[str]] = {}
        self._folders: Counter[tuple[str, str]] = Counter()

    def say(self, line: str | None) -> None:
        """Add a line, if there is one."""
        if line:
            self._said.append(line)

    def leave_out(self, path: PurePosixPath | str, reason: str) -> None:
        """Name a file that plays no part; a string is a name that is no path."""
        parent = str(path.parent) if isinstance(path, PurePosixPath) else ""
        self._files.setdefault((parent, reason), []).append(str(path))

    def leave_out_folder(self, path: PurePosixPath, reason: str) -> None:
        """Count one more file in a folder that is not looked into."""
        self._folders[str(path), reason] += 1

    def lines(self) -> list[str]:
        """Return the notes; many files that play no part, as they lie beside most submissions, take one line."""
        lines = list(self._said)
        ordinary = [name for (_, reason), names in self._files.items() if reason in ORDINARY for name in names]
        many = len(ordinary) > MAX_ORDINARY
        for (folder, reason), count in self._folders.items():
            lines.append(f"{shown(folder)}/: {reason} ({_files(count)})")
        for (parent, reason), names in self._files.items():
            if many and reason in ORDINARY:
                continue
            if parent and len(names) >= _FOLD_FROM:
                where = "" if parent == "." else f"{shown(parent)}/: "
                lines.append(f"{where}{_files(len(names))}, such as {shown(names[0])}: {reason}")
            else:
                lines += [f"{shown(name)}: {reason}" for name in names]
        if many:
            named = ", ".join(map(shown, ordinary[:MAX_ORDINARY]))
            lines.append(f"{_files(len(ordinary))} play no part: {named}, …")
        return _cut(lines, MAX_LINES, "notes")

    def left_out(self) -> list[str]:
        """Return every file that plays no part, with the reason."""
        return _cut(
            [f"{shown(name)}: {reason}" for (_, reason), names in self._files.items() for name in names],
            MAX_LEFT_OUT,
            "files",
        )


def _cut(lines: list[str], most: int, what: str) -> list[str]:
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"and {len(lines) - most + 1} more {what} of this kind"]


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"
