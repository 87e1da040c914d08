"""`kit release`: build what is handed out, from an allow-list, byte for byte the same from the same commit."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import ROOT, load_tasks
from tools.build import generated_files
from tools.confidential import read_secrets
from tools.gradescope import build_gradescope_zip
from tools.leaks import check_zip

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Of the grader, what `check` needs; the desk, the class and the answers stay at home.
CHECK_MODULES = [
    "__init__", "archives", "case", "compare", "conftest", "conversation", "errors", "feedback", "filenames", "flags",
    "grade", "intake", "isolation", "levels", "limits", "mounts", "notes", "plugin", "reasons", "rules", "sandbox",
    "session", "sources", "spawned", "tar_stream", "tasks", "turns", "user_namespace",
]  # fmt: skip
# Folder in the repository, pattern, folder of the student. What is not listed here does not leave the house: no oracle,
# no hidden test, no hidden tensor, no solution.
STUDENT_FILES = [
    ("assignment", "*.py", ""),
    ("notebooks", "*.ipynb", ""),
    ("helpers", "*.py", "helpers"),
    ("helpers/legacy", "**/*.py", "helpers/legacy"),
    *[("autograder", f"{name}.py", "autograder") for name in CHECK_MODULES],
    ("autograder", "pytest.ini", "autograder"),
    ("autograder/worker", "*.py", "autograder/worker"),
    ("autograder/graded", "__init__.py", "autograder/graded"),
    ("autograder/graded/public", "*.py", "autograder/graded/public"),
    ("autograder/reference/public", "*.safetensors", "autograder/reference/public"),
    ("solutions", "tasks.toml", "autograder"),
    ("docs", "student.md", ""),
    ("data", "manifest.json", "data"),
    ("data", "README.md", "data"),
    (".", "requirements.txt", ""),
    (".", "LICENSE", ""),
]
# Every name that may leave the house, written down by hand: a file that a pattern above happens to match does not.
HANDED_OUT = ROOT / "tools" / "handed_out.txt"
STUDENT_ZIP, NBGRADER_ZIP, GRADESCOPE_ZIP = "fcos-assignment.zip", "fcos-nbgrader.zip", "fcos-gradescope.zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format knows no earlier time; a real one would make two builds differ
_SHOWN = 10  # leaks or changed files in a message


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="folder to write to (dist)")
    parser.add_argument("--dirty", action="store_true", help="allow changes that are in no commit; VERSION says so")


def run(args) -> int:
    """Write what is handed out, its checksums and its version; nothing when a gate is not passed."""
    version = describe_version(ROOT, args.dirty)
    names = (STUDENT_ZIP, NBGRADER_ZIP, GRADESCOPE_ZIP, "VERSION")
    others = [name for name in names if (args.out / name).exists()]
    if others and not (args.out / "SHA256SUMS").exists():
        raise KitError(f"{args.out / others[0]}: exists, and not from a release; name another folder with --out")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=args.out, prefix=".") as folder:
            files = build(Path(folder), version)
            checksums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
            lines = "".join(f"{digest}  {name}\n" for name, digest in checksums.items())
            (Path(folder) / "SHA256SUMS").write_text(lines, encoding="utf-8", newline="")
            (Path(folder) / "VERSION").write_text(version, encoding="utf-8", newline="")
            for path in (*files, Path(folder) / "SHA256SUMS", Path(folder) / "VERSION"):
                path.replace(args.out / path.name)
    except OSError as error:
        raise KitError(f"{args.out}: cannot be written ({error.strerror})") from None
    for name, what in files.items():
        print(f"wrote {args.out / name.name}: {what}, {(args.out / name.name).stat().st_size / 1024:.0f} KiB")
    print(version, end="")
    return 0


def build(folder: Path, version: str) -> dict[Path, str]:
    """Write the archives that are handed out into `folder`.

    Returns:
        Path -> what it holds, in words.

    Raises:
        KitError: something is there that students must not have.
    """
    from tools.nbgrader import allowed_names, course_files  # which imports this module

    table, found = load_tasks(), {}
    secrets, listed = read_secrets(table), handed_out()
    # What nbgrader hands out is made of the course, so that is searched too.
    for name, files, names, what in (
        (STUDENT_ZIP, student_files(), listed, "files for students"),
        (NBGRADER_ZIP, course_files(table), allowed_names(listed), "files of an nbgrader course"),
    ):
        path, files = folder / name, files | {"VERSION": version.encode()}
        write_zip(path, files, folder=path.stem)
        leaks = check_zip(path, {f"{path.stem}/{entry}" for entry in names | {"VERSION"}}, secrets)
        if leaks:
            raise KitError(f"{name} would give away: {_some(leaks)}")
        found[path] = f"{len(files)} {what}"
    if any(task.measures for task in table.graded):
        print(f"{GRADESCOPE_ZIP} needs held-out images: make it with kit gradescope --weights --held-out FOLDER")
        return found
    gradescope = build_gradescope_zip(folder / GRADESCOPE_ZIP)
    return found | {gradescope: "the autograder for Gradescope; it holds the answers, so it is not for students"}


def describe_version(root: Path, dirty: bool = False) -> str:
    """Return the version and the commit as two lines of text.

    Args:
        root: of the repository.
        dirty: allow changes that are in no commit, and a folder without git; the text then says so.

    Raises:
        KitError: there are such changes, and they are not allowed.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commit = _git(root, "show", "-s", "--format=%H of %cs")
    # Untracked files count, though git may be set up not to show them.
    changed = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", ".")
    if not dirty and not commit:
        raise KitError(f"{root}: not a git repository with a commit; add --dirty to build from it as it is")
    if not dirty and changed:
        names = [line[3:] for line in changed.splitlines()]
        raise KitError(f"{root}: changes that are in no commit: {_some(names)}; commit them, or add --dirty")
    state = ", with changes that are in no commit" if changed else ""
    return f"{project['name']} {project['version']}\ncommit {commit or 'unknown'}{state}\n"


def _git(root: Path, *arguments: str) -> str:
    """What git prints; empty when it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""


def _some(lines: list[str]) -> str:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "; ".join([*lines[:_SHOWN], *more])


def student_files() -> dict[str, bytes]:
    """Return every file of the student's folder by its path there.

    Raises:
        KitError: a generated file is not what the solutions give, or an entry of the allow-list matches nothing.
    """
    for path, text in generated_files(load_tasks()).items():
        if not path.is_file() or path.read_bytes() != text.encode():
            raise KitError(f"{path.relative_to(ROOT)} is not what solutions/ gives; run: kit build")
    files = {}
    for folder, pattern, target in STUDENT_FILES:
        found = sorted(path for path in (ROOT / folder).glob(pattern) if path.is_file())
        if not found:
            raise KitError(f"the release lists {folder}/{pattern}, and there is no such file")
        for path in found:
            files[(Path(target) / path.relative_to(ROOT / folder)).as_posix()] = path.read_bytes()
    return files


def handed_out() -> set[str]:
    """Return the path in the student's folder of every file that may be there."""
    return set(HANDED_OUT.read_text(encoding="utf-8").split())


def write_zip(path: Path, files: dict[str, bytes], folder: str) -> None:
    """Write a zip whose bytes depend on nothing but its contents.

    Args:
        path: of the zip, replaced as a whole.
        files: path in the zip -> content.
        folder: the one folder that holds them all.
    """
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{folder}/{name}", _EPOCH)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3  # the same on every system
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    partial.replace(path)
