"""`kit build`: write assignment/ and notebooks/ from solutions/, the single source."""

import sys
from pathlib import Path

from autograder.tasks import FILES, ROOT, TaskTable, load_tasks
from tools.notebooks import render_notebooks
from tools.strip import strip_solutions


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a generated file differs")


def run(args) -> int:
    """Write the generated files, or compare them."""
    files = generated_files(load_tasks())
    changed = [path for path, text in files.items() if _read(path) != text.encode()]
    if args.check:
        for path in changed:
            print(f"{path.relative_to(ROOT)} is not what solutions/ gives; run: kit build", file=sys.stderr)
        if not changed:
            print("assignment/ and notebooks/ are up to date")
        return 1 if changed else 0
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[path].encode())
        print(f"wrote {path.relative_to(ROOT)}")
    if not changed:
        print("nothing to do: assignment/ and notebooks/ are up to date")
    return 0


def generated_files(table: TaskTable, source: Path = ROOT / "solutions") -> dict[Path, str]:
    """Return every generated file and its text; equal sources give equal bytes."""
    files = {}
    for name in FILES:
        path = source / name
        files[ROOT / "assignment" / name] = strip_solutions(path.read_text(encoding="utf-8"), path, table)
    for name, text in render_notebooks(source / "notebooks", table.colab_url).items():
        files[ROOT / "notebooks" / name] = text
    return files


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
