"""`kit release`: build what students receive, from an allow-list, byte for byte the same from the same commit."""

import zipfile
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import ROOT, load_tasks
from tools.build import generated_files

# Folder in the repository, pattern, folder of the student. What is not listed here does not leave the house: no oracle,
# no hidden test, no hidden tensor, no solution.
STUDENT_FILES = [
    ("assignment", "*.py", ""),
    ("notebooks", "*.ipynb", ""),
    ("helpers", "*.py", "helpers"),
    ("helpers/legacy", "**/*.py", "helpers/legacy"),
    ("autograder", "*.py", "autograder"),
    ("autograder", "pytest.ini", "autograder"),
    ("autograder/templates", "*.html", "autograder/templates"),
    ("autograder/worker", "*.py", "autograder/worker"),
    ("autograder/graded", "__init__.py", "autograder/graded"),
    ("autograder/graded/public", "*.py", "autograder/graded/public"),
    ("autograder/reference/public", "*.safetensors", "autograder/reference/public"),
    ("solutions", "tasks.toml", "autograder"),
    ("data", "manifest.json", "data"),
    ("data", "README.md", "data"),
    (".", "requirements.txt", ""),
    (".", "LICENSE", ""),
]
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format knows no earlier time; a real one would make two builds differ


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="folder to write to (dist)")


def run(args) -> int:
    """Write the student zip."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "fcos-assignment.zip"
    files = student_files()
    write_zip(path, files, folder="fcos-assignment")
    print(f"wrote {path}: {len(files)} files, {path.stat().st_size / 1024:.0f} KiB")
    return 0


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
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    partial.replace(path)
