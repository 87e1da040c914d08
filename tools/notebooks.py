"""Turns the py:percent masters of `solutions/notebooks` into student notebooks, the same to the byte everywhere.

A cell header of a master carries a stable `id`, so that editing a text never renames a cell, and at most one of:

    task="2.3"   belongs to a task and is left out when that task is given; a code cell is its graded check, locked
    given="2.5"  is left out unless that task is given
    points=2     on Markdown, a written answer: the master holds the model answer, the student's notebook a prompt

In Markdown, `{{ tasks }}` becomes the table of tasks, `{{ written }}` the points of the written answers, and
`{{ badge }}` the "Open in Colab" badge.
"""

import re
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder.errors import KitError
from autograder.tasks import TaskTable, load_tasks

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
    table = load_tasks(source_dir.parent / "tasks.toml")
    return {f"{path.stem}.ipynb": _render(path, table, colab_url) for path in masters}


def _render(path: Path, table: TaskTable, colab_url: str) -> str:
    text = path.read_text(encoding="utf-8")
    sources = jupytext.reads(text, fmt="py:percent").cells
    headers = [number for number, line in enumerate(text.splitlines(), start=1) if re.match(r"# %%( |$)", line)]
    if len(headers) != len(sources):
        raise KitError(f"{path}:1: there is text before the first '# %%' cell header")
    cells, lines = [], {}
    for line, source in zip(headers, sources):
        cell = _convert(source, table, where=f"{path}:{line}")
        if cell is None:
            continue
        if cell.id in lines:
            raise KitError(f"{path}:{line}: the cell id {cell.id!r} is taken by line {lines[cell.id]}")
        lines[cell.id] = line
        cells.append(cell)
    checked = {cell.metadata.nbgrader.grade_id for cell in cells if "nbgrader" in cell.metadata}
    written = sum(source.metadata.get("points", 0) for source in sources)
    for task in table.graded:
        if grade_id(task.id) not in checked:
            raise KitError(f'{path}: no check cell (task="{task.id}") for task {task.id}')
    fillings = {"tasks": _task_table(table), "written": str(written), "badge": _badge(path, colab_url)}
    for cell in cells:
        if cell.cell_type == "markdown":
            for name, filling in fillings.items():
                cell.source = cell.source.replace("{{ " + name + " }}", filling)
    notebook = new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4) + "\n"


def _convert(source: nbformat.NotebookNode, table: TaskTable, where: str) -> nbformat.NotebookNode | None:
    """One cell of the master as a student sees it; `None` leaves it out."""
    header = dict(source.metadata)
    header.pop("lines_to_next_cell", None)  # jupytext's own bookkeeping
    cell_id, kinds = (
        header.pop("id", ""),
        {key: header.pop(key) for key in ("task", "given", "points") if key in header},
    )
    if not CELL_ID.fullmatch(cell_id):
        raise KitError(f'{where}: a cell header needs an id="..." of 1 to 64 letters, digits, - or _')
    if len(kinds) > 1 or set(header) - {"tags"}:
        raise KitError(f"{where}: keys of a cell header are id, tags, and one of task, given, points")
    is_code, body = source.cell_type == "code", source.source
    for key in kinds.keys() & {"task", "given"}:
        try:
            task = table[kinds[key]]
        except KitError as error:
            raise KitError(f"{where}: {error}") from None
        if task.given != (key == "given"):
            return None
        if key == "task" and is_code:
            header["nbgrader"] = _nbgrader(grade_id(task.id), task.points, solution=False)
    if "points" in kinds:
        if is_code:
            raise KitError(f"{where}: points belong on a Markdown cell, a written answer")
        header["nbgrader"] = _nbgrader(cell_id, kinds["points"], solution=True)
        body = ANSWER_PROMPT
    return (new_code_cell if is_code else new_markdown_cell)(body, id=cell_id, metadata=header)


def grade_id(task_id: str) -> str:
    """Return the id of a task's check cell in nbgrader's gradebook."""
    return "task-" + task_id.replace(".", "-")


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


def _task_table(table: TaskTable) -> str:
    rows = [f"| {task.id} | {task.title} | `{task.file}` | {task.points} |" for task in table.graded]
    total = f"| | | | **{table.total}** |"
    return "\n".join(["| task | what you write | in | points |", "|:--|:--|:--|--:|", *rows, total])


def _badge(path: Path, colab_url: str) -> str:
    if not colab_url:
        return ""
    target = f"{colab_url.rstrip('/')}/{path.stem}.ipynb"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({target})"
