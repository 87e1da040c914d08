"""Masters become notebooks: the same bytes every time, stable ids, valid for Jupyter and nbgrader, without answers."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator

from autograder.errors import KitError
from autograder.tasks import load_tasks
from tools.build import generated_files
from tools.notebooks import ANSWER_PROMPT, render_notebooks

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = ROOT / "solutions"
NAME = "one_stage_detector.ipynb"

TASKS = """
total = 10
[[task]]
id = "1.1"
title = "First"
file = "common.py"
symbols = ["common.first"]
points = 7
part = [{ id = "a", title = "a", points = 7 }]
[[task]]
id = "1.2"
title = "Second"
file = "common.py"
symbols = ["common.second"]
points = 3
part = [{ id = "a", title = "a", points = 3 }]
"""
CHECKS = '# %% id="c1" task="1.1"\ncheck("1.1")\n\n# %% id="c2" task="1.2"\ncheck("1.2")\n'
# A master, and what the message about it must say; lines are counted in the master.
BAD_MASTERS = {
    "no id": ("# %%\na = 1\n", r"master\.py:1: .*needs an id="),
    "id with a space": ('# %% [markdown] id="a b"\n# text\n', r"master\.py:1: .*needs an id="),
    "id twice": ('# %% id="a"\na = 1\n\n# %% id="a"\nb = 1\n', r"master\.py:4: the cell id 'a' is taken by line 1"),
    "unknown key": ('# %% id="a" color="red"\na = 1\n', r"master\.py:1: keys of a cell header are"),
    "two kinds": ('# %% [markdown] id="a" task="1.1" points=1\n# text\n', r"master\.py:1: keys of a cell header are"),
    "unknown task": ('# %% id="a" task="9.9"\ncheck("9.9")\n', r"master\.py:1: no task '9\.9'"),
    "points on code": ('# %% id="a" points=2\na = 1\n', r"master\.py:1: points belong on a Markdown cell"),
    "text before the first cell": ('a = 1\n\n# %% id="a"\nb = 1\n', r"master\.py:1: there is text before"),
    "a task without a check": (
        '# %% id="c1" task="1.1"\ncheck("1.1")\n',
        r"master\.py: no check cell .* for task 1\.2",
    ),
}


@pytest.fixture(scope="module")
def real() -> nbformat.NotebookNode:
    return nbformat.reads(render_notebooks(SOLUTIONS / "notebooks")[NAME], as_version=4)


def render(tmp_path: Path, master: str, tasks: str = TASKS, **options) -> str:
    (tmp_path / "notebooks").mkdir(exist_ok=True)
    (tmp_path / "tasks.toml").write_text(tasks)
    (tmp_path / "notebooks" / "master.py").write_text(master)
    return render_notebooks(tmp_path / "notebooks", **options)["master.ipynb"]


@pytest.mark.parametrize("case", BAD_MASTERS)
def test_render_names_file_and_line_of_a_mistake(case, tmp_path):
    master, message = BAD_MASTERS[case]
    with pytest.raises(KitError, match=message):
        render(tmp_path, master)


def test_render_of_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(KitError, match="no notebook masters"):
        render_notebooks(tmp_path)


def test_render_gives_the_same_bytes_in_another_process():
    here = hashlib.sha256(render_notebooks(SOLUTIONS / "notebooks")[NAME].encode()).hexdigest()
    code = (
        "import hashlib; from tools.notebooks import render_notebooks as r;"
        f"print(hashlib.sha256(r({str(SOLUTIONS / 'notebooks')!r})[{NAME!r}].encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == here, done.stderr


def test_cell_ids_survive_an_edit_of_the_text(tmp_path):
    before = json.loads(render(tmp_path, CHECKS + '\n# %% [markdown] id="t"\n# old words\n'))
    after = json.loads(render(tmp_path, CHECKS + '\n# %% [markdown] id="t"\n# quite new words\n# on two lines\n'))
    assert [cell["id"] for cell in before["cells"]] == [cell["id"] for cell in after["cells"]] == ["c1", "c2", "t"]


def test_written_answer_becomes_a_prompt_that_a_person_grades(tmp_path):
    master = CHECKS + '\n# %% [markdown] id="answer" points=2\n# The model answer.\n'
    cell = json.loads(render(tmp_path, master))["cells"][-1]
    assert "".join(cell["source"]) == ANSWER_PROMPT
    assert cell["metadata"]["nbgrader"] == {
        "grade": True,
        "grade_id": "answer",
        "locked": False,
        "points": 2,
        "schema_version": 3,
        "solution": True,
        "task": False,
    }


def test_check_cell_is_locked_and_worth_the_points_of_the_table(tmp_path):
    cell = json.loads(render(tmp_path, CHECKS))["cells"][0]["metadata"]["nbgrader"]
    assert (cell["grade_id"], cell["points"], cell["locked"], cell["solution"]) == ("task-1-1", 7, True, False)


def test_given_task_swaps_its_cells_and_hands_on_its_points(tmp_path):
    text = '\n# %% [markdown] id="yours" task="1.2"\n# Write it.\n\n# %% [markdown] id="ours" given="1.2"\n# Read it.\n'
    given = TASKS.replace('id = "1.2"', 'id = "1.2"\ngiven = true')
    as_task, as_given = (json.loads(render(tmp_path, CHECKS + text, tasks))["cells"] for tasks in (TASKS, given))
    assert [cell["id"] for cell in as_task] == ["c1", "c2", "yours"]
    assert [cell["id"] for cell in as_given] == ["c1", "ours"]
    assert as_given[0]["metadata"]["nbgrader"]["points"] == 10  # 7, and the 3 of the given task


def test_markdown_is_filled_in(tmp_path):
    master = CHECKS + '\n# %% [markdown] id="t"\n# {{ badge }}\n#\n# {{ tasks }}\n#\n# {{ written }} points\n'
    master += '\n# %% [markdown] id="a" points=3\n# answer\n'
    plain, badge = (
        json.loads(render(tmp_path, master, colab_url=url))["cells"][2] for url in ("", "https://x.example/nb")
    )
    assert "| 1.1 | First | `common.py` | 7 |" in "".join(plain["source"])
    assert "3 points" in "".join(plain["source"])
    assert "{{" not in "".join(plain["source"])
    assert "](https://x.example/nb/master.ipynb)" in "".join(badge["source"])
    assert "x.example" not in "".join(plain["source"])


def test_badge_leads_to_the_address_in_the_table(tmp_path):
    toml = (SOLUTIONS / "tasks.toml").read_text()
    table = tmp_path / "tasks.toml"
    table.write_text(toml.replace('colab_url = ""', 'colab_url = "https://x.example/nb"'))
    for path, expected in ((table, True), (SOLUTIONS / "tasks.toml", False)):
        text = generated_files(load_tasks(path))[ROOT / "notebooks" / NAME]
        assert (f"](https://x.example/nb/{NAME})" in text) == expected


def test_real_notebook_is_valid_for_jupyter_and_nbgrader(real):
    nbformat.validate(real)
    assert (real.nbformat, real.nbformat_minor) == (4, 5)
    MetadataValidator().validate_nb(real)


def test_real_notebook_has_no_outputs_and_no_answers(real):
    master = (SOLUTIONS / "notebooks" / "one_stage_detector.py").read_text(encoding="utf-8")
    answers = re.findall(r"# %% \[markdown\] id=\"answer-[a-z]+\" points=\d+\n((?:#.*\n)+)", master)
    assert len(answers) == 7
    text = "\n".join(cell.source for cell in real.cells)
    for answer in answers:
        for line in answer.splitlines():
            assert line.removeprefix("# ") not in text
    code = [cell for cell in real.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "{{" not in text


def test_real_notebook_grades_every_task_once(real):
    table = load_tasks(SOLUTIONS / "tasks.toml")
    graded = {
        cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
        for cell in real.cells
        if "nbgrader" in cell.metadata and cell.cell_type == "code"
    }
    assert graded == {"task-" + task.id.replace(".", "-"): task.points for task in table.graded}
    assert sum(graded.values()) == table.total
    order = [cell.source for cell in real.cells if cell.source.startswith('check("')]
    assert order == [f'check("{task.id}")' for task in sorted(table.graded, key=lambda task: task.id)]


# Nobody writes matching in the standard course; NMS stands for any task that an instructor gives away.
@pytest.mark.parametrize(
    ("change", "appears", "vanishes"),
    [
        (("given = true\noptional = true", "given = false\noptional = true"), "task-2-5", "matching-given"),
        (('id = "4.1"', 'id = "4.1"\ngiven = true'), "matching-given", "task-4-1"),
        (("seconds = 120\ngiven = true", "seconds = 120"), "task-5-1", "task-2-5"),
    ],
)
def test_real_notebook_follows_the_table_of_tasks(change, appears, vanishes, tmp_path):
    master = (SOLUTIONS / "notebooks" / "one_stage_detector.py").read_text(encoding="utf-8")
    tasks = (SOLUTIONS / "tasks.toml").read_text(encoding="utf-8")
    assert change[0] in tasks
    notebook = nbformat.reads(render(tmp_path, master, tasks.replace(*change)), as_version=4)
    ids = {cell.id for cell in notebook.cells}
    assert appears in ids
    assert vanishes not in ids
    points = [
        cell.metadata.nbgrader.points
        for cell in notebook.cells
        if cell.id.startswith("task-") and "nbgrader" in cell.metadata
    ]
    assert sum(points) == 100
