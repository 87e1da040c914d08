"""Turns the py:percent masters of `solutions/notebooks` into student notebooks, the same to the byte everywhere.

A cell header of a master carries a stable `id`, so that editing a text never renames a cell, and at most one of:

    task="2.3"   the graded check of a task: a locked code cell whose points come from tasks.toml
    points=2     a written answer: the master holds the model answer, the student's notebook an empty prompt

In Markdown, `{{ tasks }}` becomes the table of tasks and `{{ badge }}` the "Open in Colab" badge.
"""

import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder.errors import KitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ANSWER_PROMPT = "*Your answer: double-click here and write a few sentences.*"
CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what both nbformat and nbgrader allow
METADATA = {
    "accelerator": "GPU",  # Colab reads this when it opens the notebook: nobody trains on its CPU by accident
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def render_notebooks(source_dir: str | Path, colab_url: str = "") -> dict[str, str]:
    """Convert every master of a folder; `tasks.toml` lies beside that folder.

    Args:
        source_dir: the folder of `*.py` masters.
        colab_url: address under which the notebooks are published, for the "Open in Colab" badge; empty leaves it out.

    Returns:
        File name (`*.ipynb`) to file content, sorted by name.

    Raises:
        KitError: a master breaks a rule of the module docstring; the message names file and line.
    """
    source_dir = Path(source_dir)
    masters = sorted(source_dir.glob("*.py"))
    if not masters:
        raise KitError(f"{source_dir}: no notebook masters (*.py) in this folder")
    tasks = _read_tasks(source_dir.parent / "tasks.toml")
    return {f"{path.stem}.ipynb": _render(path, tasks, colab_url) for path in masters}


def _read_tasks(path: Path) -> dict[str, dict]:
    """Task id to its table in tasks.toml."""
    try:
        return {task["id"]: task for task in tomllib.loads(path.read_text(encoding="utf-8"))["task"]}
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise KitError(f"{path}: cannot be read as a table of tasks ({error})") from error


def _render(path: Path, tasks: dict[str, dict], colab_url: str) -> str:
    text = path.read_text(encoding="utf-8")
    sources = jupytext.reads(text, fmt="py:percent").cells
    headers = [number for number, line in enumerate(text.splitlines(), start=1) if re.match(r"# %%( |$)", line)]
    if len(headers) != len(sources):
        raise KitError(f"{path}:1: text before the first '# %%' cell header")
    cells, lines = [], {}
    for line, source in zip(headers, sources):
        cell = _convert(source, tasks, where=f"{path}:{line}")
        if cell.id in lines:
            raise KitError(f"{path}:{line}: cell id {cell.id!r} is taken by line {lines[cell.id]}")
        lines[cell.id] = line
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("{{ tasks }}", _task_table(tasks))
            cell.source = cell.source.replace("{{ badge }}", _badge(path, colab_url))
        cells.append(cell)
    notebook = new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4) + "\n"


def _convert(source: nbformat.NotebookNode, tasks: dict[str, dict], where: str) -> nbformat.NotebookNode:
    """One cell of the master as a student sees it."""
    header = dict(source.metadata)
    header.pop("lines_to_next_cell", None)  # jupytext's own bookkeeping
    cell_id, task_id, points = header.pop("id", ""), header.pop("task", None), header.pop("points", None)
    if not CELL_ID.fullmatch(cell_id):
        raise KitError(f'{where}: a cell header needs an id="..." of 1 to 64 letters, digits, - or _')
    if set(header) - {"tags"}:
        raise KitError(f"{where}: unknown key {min(set(header) - {'tags'})!r} in the cell header")
    body = source.source
    if task_id is not None:
        if source.cell_type != "code":
            raise KitError(f"{where}: task={task_id!r} belongs on a code cell")
        if task_id not in tasks:
            raise KitError(f"{where}: task {task_id!r} is not in tasks.toml (there: {', '.join(tasks)})")
        if not tasks[task_id].get("given", False):
            header["nbgrader"] = _nbgrader(cell_id, tasks[task_id]["points"], solution=False)
    elif points is not None:
        if source.cell_type != "markdown":
            raise KitError(f"{where}: points={points} belongs on a Markdown cell, a written answer")
        header["nbgrader"] = _nbgrader(cell_id, points, solution=True)
        body = ANSWER_PROMPT
    new_cell = new_code_cell if source.cell_type == "code" else new_markdown_cell
    return new_cell(body, id=cell_id, metadata=header)


def _nbgrader(grade_id: str, points: float, solution: bool) -> dict:
    """Metadata of nbgrader's schema 3; a written answer is both graded and the student's to edit."""
    return {
        "grade": True,
        "grade_id": grade_id,
        "locked": not solution,
        "points": points,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }


def _task_table(tasks: dict[str, dict]) -> str:
    rows = [
        f"| {task['id']} | {task['title']} | `{task['file']}` | {'given' if task.get('given') else task['points']} |"
        for task in tasks.values()
    ]
    return "\n".join(["| task | what you write | where | points |", "|---|---|---|---|", *rows])


def _badge(path: Path, colab_url: str) -> str:
    if not colab_url:
        return ""
    target = f"{colab_url.rstrip('/')}/{path.stem}.ipynb"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({target})"
