"""Collects what is said about a submission's files: one line for each file left out, one for a folder of many."""

from collections import Counter
from pathlib import PurePosixPath

from autograder.filenames import shown

MAX_LINES = 60
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
        """Return the notes; long lists are cut, and say so."""
        lines = list(self._said)
        for (folder, reason), count in self._folders.items():
            lines.append(f"{shown(folder)}/: {reason} ({_files(count)})")
        for (parent, reason), names in self._files.items():
            if parent and len(names) >= _FOLD_FROM:
                where = "" if parent == "." else f"{shown(parent)}/: "
                lines.append(f"{where}{_files(len(names))}, such as {shown(names[0])}: {reason}")
            else:
                lines += [f"{shown(name)}: {reason}" for name in names]
        if len(lines) > MAX_LINES:
            lines[MAX_LINES - 1 :] = [f"and {len(lines) - MAX_LINES + 1} more notes of this kind"]
        return lines


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"
