"""Turn a solution file into the file that students receive.

A block between `# BEGIN SOLUTION <task>` and `# END SOLUTION <task>` becomes a TODO comment and a `NotImplementedError`
that name the task. Lines of the block that begin with `#:` are the text of the TODO. A block of a given task stays,
without its markers and `#:` lines.
"""

import re
import textwrap
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import TaskTable

_MARKER = re.compile(r"^(?P<indent>[ \t]*)# (?P<edge>BEGIN|END) SOLUTION(?P<task>.*)$")
_LOOKS_LIKE_MARKER = re.compile(r"#.*\b(BEGIN|END)\s+SOLUTION\b", re.IGNORECASE)
_WIDTH = 116


def strip_solutions(text: str, path: Path | str, table: TaskTable) -> str:
    """Replace every solution block of a task that students solve.

    Args:
        text: source of the solution file.
        path: its name, for messages.
        table: says which tasks exist and which are given.

    Returns:
        The student's source.

    Raises:
        KitError: a marker is unpaired, nested, misspelt or names an unknown task; the message gives file and line.
    """
    known = {task.id: task for task in table.tasks}
    output: list[str] = []
    block: list[str] = []
    opened: tuple[str, int, str] | None = None  # task, line, indentation
    for number, line in enumerate(text.splitlines(), start=1):
        marker = _MARKER.match(line)
        if marker is None:
            if _LOOKS_LIKE_MARKER.search(line):
                raise KitError(f"{path}:{number}: write the marker as '# BEGIN SOLUTION <task>': {line.strip()}")
            (output if opened is None else block).append(line)
            continue
        task_id = marker["task"].strip()
        if task_id not in known:
            raise KitError(f"{path}:{number}: the marker names an unknown task {task_id!r}")
        if marker["edge"] == "BEGIN":
            if opened is not None:
                raise KitError(
                    f"{path}:{number}: BEGIN inside the block of task {opened[0]} that line {opened[1]} opened"
                )
            opened, block = (task_id, number, marker["indent"]), []
            continue
        if opened is None:
            raise KitError(f"{path}:{number}: END SOLUTION {task_id} without a BEGIN")
        if opened[0] != task_id:
            raise KitError(f"{path}:{number}: END SOLUTION {task_id} closes the block of task {opened[0]}")
        task, indent = known[task_id], opened[2]
        hints = [content.strip()[2:].strip() for content in block if content.strip().startswith("#:")]
        if task.given:
            output += [content for content in block if not content.strip().startswith("#:")]
        else:
            if not hints:
                raise KitError(
                    f"{path}:{opened[1]}: the block of task {task_id} has no '#:' line that tells what to do"
                )
            output += _stub(task_id, task.title, " ".join(hints), indent)
        opened = None
    if opened is not None:
        raise KitError(f"{path}:{opened[1]}: BEGIN SOLUTION {opened[0]} is never closed")
    return "\n".join(output) + "\n"


def _stub(task_id: str, title: str, hint: str, indent: str) -> list[str]:
    """Return the lines that stand where the solution was."""
    prefix = indent + "# "
    comment = textwrap.wrap(
        f"TODO {task_id}: {hint}", width=_WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False
    )
    return [*comment, f'{indent}raise NotImplementedError("Task {task_id}: {title}")']
