"""`check("2.3")` in the notebook: runs a task's public tests in a worker process and shows what was found."""

import atexit
import html
import os
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from autograder.errors import KitError
from autograder.grade import grade
from autograder.sandbox import Worker
from autograder.tasks import FILES, Task, TaskTable, load_tasks

_COLORS = {"passed": "#0b6e3a", "partial": "#8a5a00", "failed": "#b00020", "not implemented": "#666", "waiting": "#666"}
_SIGNS = {"passed": "✓", "partial": "◐", "failed": "✗", "not implemented": "…", "waiting": "…"}


@dataclass(frozen=True)
class Card:
    """What a check found; a notebook shows it as a table, `print` as text.

    nbgrader reads the last value of a check cell, and gives full marks for everything that is not a number: also for a
    card. So whoever collects with nbgrader ends such a cell with `float(card)` or `card.score()`.

    Attributes:
        tasks: result rows, as in the results of `grade`.
        points, max_points: of the public parts of the tasks on this card.
        note: a line below the table; of a card without a task, all there is to say.
    """

    tasks: tuple[dict, ...]
    points: int
    max_points: int
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every public part on the card passed."""
        return bool(self.tasks) and all(task["status"] == "passed" for task in self.tasks)

    def score(self) -> float:
        """Return the points as a plain finite number."""
        return float(self.points)

    __float__ = score

    def __str__(self) -> str:
        lines = []
        for task in self.tasks:
            lines.append(f"Task {task['id']} {task['title']}: {task['status']}, {_points(task)}")
            for part in task["parts"]:
                lines.append(f"  {_SIGNS[part['status']]} {part['title']} ({_points(part)})")
                if part["message"]:
                    lines.append(textwrap.indent(textwrap.fill(part["message"], 100), "      "))
        if self.tasks:
            lines.append(f"{self.points} of {self.max_points} points")
        lines += [self.note] if self.note else []
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for task in self.tasks:
            title, color = html.escape(task["title"]), _COLORS[task["status"]]
            rows.append(
                f"<tr><th colspan='3' style='text-align:left'>Task {task['id']} · {title}</th>"
                f"<th style='text-align:right;color:{color}'>{_points(task)}</th></tr>"
            )
            for part in task["parts"]:
                color, sign = _COLORS[part["status"]], _SIGNS[part["status"]]
                title, message = html.escape(part["title"]), html.escape(part["message"])
                rows.append(
                    f"<tr><td style='color:{color};text-align:center' title='{part['status']}'>{sign}</td>"
                    f"<td style='text-align:left;vertical-align:top'>{title}</td>"
                    f"<td style='text-align:left;white-space:pre-wrap;max-width:44em'>{message}</td>"
                    f"<td style='text-align:right;vertical-align:top'>{_points(part)}</td></tr>"
                )
        below = [f"<b>{self.points} of {self.max_points}</b> points"] if self.tasks else []
        below += [html.escape(self.note)] if self.note else []
        table = f"<table style='font-size:14px'>{''.join(rows)}</table>" if self.tasks else ""
        return f"{table}<p>{' · '.join(below)}</p>"


def _points(row: dict) -> str:
    return f"{row['points']}/{row['max_points']}"


class Check:
    """Runs public tests on the files in a folder, in a worker that stays warm between calls.

    Each probe reads the files anew, so an edit counts at once, and a crash or an endless loop ends with a message.
    """

    def __init__(self):
        self._worker = None
        self._folder: Path | None = None

    def use(self, folder: str | Path) -> None:
        """Check the files in this folder from now on."""
        folder = Path(folder).resolve()
        if not any((folder / name).is_file() for name in FILES):
            raise KitError(f"{folder} holds neither {' nor '.join(FILES)}")
        self._folder = folder

    def __call__(self, *task_ids: str) -> Card:
        """Check one task or several.

        Args:
            task_ids: such as "2.3".

        Returns:
            The card; a notebook shows it when it is the last value of a cell, a plain script prints it right here. When
            no task is called so, or it is given, the card holds no task and says that.

        Raises:
            KitError: the files are nowhere to be found.
        """
        table = load_tasks()
        try:
            tasks = [_checked_task(table, task_id) for task_id in task_ids] or list(table.graded)
        except KitError as problem:  # in a notebook a traceback would hide the one line that helps
            card = Card((), 0, 0, str(problem))
        else:
            card = self._card(table, tasks)
        if not _shows_values():
            print(card)
        return card

    def all(self) -> Card:
        """Check every task that has public tests."""
        return self()

    def _card(self, table: TaskTable, tasks: list[Task]) -> Card:
        visible = [task for task in tasks if any(not part.hidden for part in task.parts)]
        needed = {task_id for task in visible for task_id in task.needs if not table[task_id].given}
        wanted = {task.id for task in visible} | {task_id for task_id in needed if _has_public(table[task_id])}
        rows = {}
        if wanted:
            folder = self._find()
            if self._worker is None:
                self._worker = start_worker()
                atexit.register(self._worker.close)  # it has a folder that somebody must remove
            try:
                results = grade(folder, table, wanted, worker=self._worker, as_student=True)
            except BaseException:  # interrupted in the middle of a probe, say: the next check starts clean
                self._worker.close()
                self._worker = None
                raise
            rows = {row["id"]: row for row in results["tasks"]}
        shown = tuple(_wait_for(rows[task.id], [rows[n] for n in task.needs if n in rows]) for task in visible)
        unseen = ", ".join(task.id for task in tasks if task not in visible)
        note = f"Task {unseen} has no public test: it is graded after you hand in" if unseen else ""
        return Card(shown, sum(row["points"] for row in shown), sum(row["max_points"] for row in shown), note)

    def _find(self) -> Path:
        """The folder with the student's files: the one that was named, else the notebook's."""
        if self._folder is not None:
            return self._folder
        for folder in (Path.cwd(), *map(Path, sys.path)):
            if all((folder / name).is_file() for name in FILES):
                return folder.resolve()
        raise KitError(
            f"{' and '.join(FILES)} are not in {Path.cwd()}; open the notebook in their folder, or name that folder: "
            "check.use(FOLDER)"
        )


def start_worker():
    """Start a worker that forks for each probe on Linux, and one that starts fresh interpreters anywhere else.

    `FCOS_CHECK_SPAWN=1` asks for the second kind on Linux too.

    Returns:
        A `Worker` or a `Spawned`.
    """
    if sys.platform == "linux" and os.environ.get("FCOS_CHECK_SPAWN", "0") == "0":
        return Worker()
    from autograder.spawned import Spawned

    return Spawned()


def _checked_task(table: TaskTable, task_id: str) -> Task:
    if not isinstance(task_id, str):
        raise KitError(f'a task is named by text, as in check("2.3"), and not by {task_id!r}')
    task = table[task_id]
    if task.given:
        raise KitError(f"task {task.id} is given: there is nothing to check")
    return task


def _shows_values() -> bool:
    """Whether the value of a line is shown by itself: in notebooks, in IPython and at Python's prompt."""
    ipython = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (ipython is not None and ipython.get_ipython() is not None)


def _has_public(task: Task) -> bool:
    return any(not part.hidden for part in task.parts)


def _wait_for(row: dict, needed: list[dict]) -> dict:
    """Say "fix 2.2 first" where a task fails while one that it builds on is not right yet."""
    if row["status"] in ("passed", "not implemented"):
        return row
    missing = [other["id"] for other in needed if other["status"] != "passed"]
    if not missing:
        return row
    message = f"fix {' and '.join(missing)} first: this task builds on it"
    parts = [
        part if part["status"] == "passed" else {**part, "status": "waiting", "message": message}
        for part in row["parts"]
    ]
    return {**row, "status": "waiting", "message": message, "parts": parts}


check = Check()
