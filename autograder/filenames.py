"""Decides from its name alone what a file in a submission is.

Names are data from outside: none is joined to a path before `clean_name` has seen it.
"""

import importlib.machinery
import re
import sys
import sysconfig
import unicodedata
from pathlib import PurePosixPath

from autograder.archives import MAX_DEPTH
from autograder.tasks import FILES

MAX_NAME, MAX_NAME_BYTES = 120, 255  # characters, and what file systems allow for one part of a path
# The worker serves its own under these names, whatever lies beside a submission.
KIT_MODULES = {"helpers", "a4_helper", "eecs598", "autograder", "fcos_worker"}
_SETTINGS = {
    "conftest.py",
    "pytest.ini",
    "tox.ini",
    "setup.cfg",
    "pyproject.toml",
    "sitecustomize.py",
    "usercustomize.py",
}
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
# Why files play no part that lie beside most submissions: nobody has to do anything about them.
LEFT_BEHIND = "left behind by a tool"
ARCHIVE = "an archive inside the submission is not opened"
NOTEBOOK = "a notebook is not graded; the code in the .py files is"
NOT_USED = "not used for grading"
KITS_OWN = "the kit's own is used in its place; this costs nothing"
ORDINARY = {LEFT_BEHIND, ARCHIVE, NOTEBOOK, NOT_USED, KITS_OWN}
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
# "common (1).py" is a second download, "common-1.py" a second upload to Canvas, "doejane_12_345_common.py" one
# file of a bulk download from there.
_VARIANTS = {name: re.compile(rf"(?:.*_\d+_)?{name[:-3]}(?: ?\(\d+\)|-\d+)?\.py", re.IGNORECASE) for name in FILES}


def clean_name(name: str) -> tuple[PurePosixPath | None, str]:
    """Bring an entry's name into one form.

    Args:
        name: as in an archive, from any system.

    Returns:
        The path, relative and without `..`, and ""; or None and the reason why the name is refused.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return None, "its name is not UTF-8"
    if any(unicodedata.category(character) == "Cc" for character in name):
        return None, "a control character in its name"
    name = unicodedata.normalize("NFC", name).replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return None, "an absolute path"
    if ".." in parts:
        return None, "a path that leads out of the submission"
    if not parts or any(len(part) > MAX_NAME for part in parts):
        return None, "a name that no file can have" if not parts else f"a name of more than {MAX_NAME} characters"
    if any(len(part.encode("utf-8")) > MAX_NAME_BYTES for part in parts):
        return None, f"a name of more than {MAX_NAME_BYTES} bytes"
    if len(parts) > MAX_DEPTH + 1:
        return None, f"more than {MAX_DEPTH} folders deep"
    return PurePosixPath(*parts), ""


def visible(text: str) -> str:
    """Return text as one line in which every character can be seen."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def shown(name: object) -> str:
    """Return a name as one short line of visible characters."""
    text = visible(str(name))
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"


def assigned_file(name: str) -> str | None:
    """Return which of the two files a name means, whatever its case and what browsers and Canvas add; else None."""
    return next((file for file, pattern in _VARIANTS.items() if pattern.fullmatch(name)), None)


def numbers_in(name: str) -> list[int]:
    """Return the numbers in a name: of two uploads of one file, the later has the larger."""
    return [int(number) for number in re.findall(r"\d{1,18}", name)]


def why_left_out(path: PurePosixPath) -> str:
    """Return why a file beside the two files plays no part, or "" for a module that they may import.

    Args:
        path: relative to the folder of the two files.
    """
    name = path.name.lower()
    if name.startswith(".") or name in _SYSTEM_FILES:
        return LEFT_BEHIND
    if name in _SETTINGS or path.suffix == ".pth":
        return "settings of Python and pytest are never loaded from a submission; this costs nothing"
    if name.endswith(ARCHIVES):
        return ARCHIVE
    if name.endswith(".ipynb"):
        return NOTEBOOK
    if path.suffix != ".py":
        return NOT_USED
    module = path.parts[0].removesuffix(".py")
    if module in KIT_MODULES:
        return KITS_OWN
    if _is_installed(module):
        return f"never loaded: `import {module}` means the library of that name; rename the file if you need it"
    if not all(part.isidentifier() for part in (*path.parent.parts, path.stem)):
        return "not a name that Python can import"
    return ""


def _is_installed(module: str) -> bool:
    """Whether a name belongs to Python or to an installed library, which a file of a submission never hides."""
    if module in sys.stdlib_module_names:
        return True
    # Not `find_spec(module)`: that would also find what merely lies beside the grader.
    packages = list({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    spec = importlib.machinery.PathFinder.find_spec(module, packages)
    return spec is not None and spec.loader is not None
