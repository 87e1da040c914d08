"""A student's folder, made of the release, and notebooks executed in it."""

import os
import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tools.release import student_files

ROOT = Path(__file__).resolve().parents[2]


def make_student_copy(folder: Path, source: Path) -> Path:
    """Unpack the student release into `folder`, with the two files of `source` (solutions or skeletons) in it."""
    for name, content in student_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for file in ("common.py", "one_stage_detector.py"):
        shutil.copy(source / file, folder / file)
    return folder


def execute(path: Path, environment: dict[str, str], allow_errors: bool = False, timeout: int = 600):
    """Run a notebook top to bottom in its own folder and a clean environment; returns it with its outputs."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT")
    clean = {name: os.environ[name] for name in kept if name in os.environ}
    # The checkout is installed here; a student has only the copy, which the notebook puts first on the path.
    environment = {**clean, "OMP_NUM_THREADS": "2", "IPYTHONDIR": str(path.parent / ".ipython"), **environment}
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        allow_errors=allow_errors,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=environment)
    return notebook


def text_of(cell) -> str:
    """Everything that a cell printed or returned as text."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    return "".join(parts)


def pictures_of(cell) -> int:
    """How many pictures a cell shows."""
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
