"""Small changes of the solutions, written down in TOML: known mistakes, mutants and honest variants.

    task = "2.2"                 # the edits below are looked for in the solution blocks of this task

    [[mutant]]
    name = "no-stride"
    why = "the stride is forgotten"
    find = "dim=-1) / stride"    # must be there exactly once
    replace = "dim=-1)"

An entry with several changes lists them as `[[mutant.edit]]`. An edit is one of

    find, replace                text for text
    define                       source of a function or class (imports and helpers may stand before it) that takes the
                                 place of the one with the same name; `inside = "FCOS"` for a method
    file, content                a whole file
"""

import ast
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import FILES, TaskTable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_EDIT_KEYS = {"file", "find", "replace", "define", "inside", "content"}


@dataclass(frozen=True)
class Patch:
    """One entry of a file.

    Attributes:
        place: "file.toml:12", for messages.
        task: the task whose solution it changes; None when it may change anything.
        fields: what the entry says beside its edits, such as name, why, hint.
        edits: each a dict with the keys of an edit; `file` is always there.
    """

    place: str
    task: str | None
    fields: dict
    edits: tuple[dict, ...]


def read_patches(path: Path, kind: str, table: TaskTable, needed: tuple, optional: tuple = ()) -> list[Patch]:
    """Read the entries of one file.

    Args:
        path: of the TOML file.
        kind: name of the entries: "mutant", "variant" or "mistake".
        table: to know the tasks.
        needed, optional: names of what an entry says beside its edits.

    Raises:
        KitError: anything is not as described above; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise KitError(f"{path}: cannot be read ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise KitError(f"{path}: {error}") from None
    unknown = sorted(set(raw) - {"task", kind})
    if unknown:
        raise KitError(f"{path}:1: unknown key {', '.join(unknown)}; the entries are [[{kind}]]")
    task = raw.get("task")
    if task is not None and task not in {known.id for known in table.tasks}:
        line = _line(text, r"^task\b", 0)
        raise KitError(f"{path}:{line}: no task {task!r} in the table")
    patches = []
    for number, entry in enumerate(raw.get(kind, [])):
        line = _line(text, rf"^\[\[{kind}\]\]", number)
        place = f"{path}:{line}"
        described = {key: value for key, value in entry.items() if key not in _EDIT_KEYS | {"edit"}}
        wrong = [f"missing {key}" for key in needed if not isinstance(described.get(key), str)]
        wrong += [f"unknown key {key}" for key in described if key not in (*needed, *optional)]
        if wrong:
            raise KitError(f"{place}: {wrong[0]}")
        if "edit" in entry and set(entry) & _EDIT_KEYS:
            raise KitError(f"{place}: has both a list of edits and an edit of its own")
        edits = entry.get("edit") or [{key: value for key, value in entry.items() if key in _EDIT_KEYS}]
        edits = tuple({"file": table[task].file if task else None, **edit} for edit in edits)
        for edit in edits:
            if _form(edit) is None:
                raise KitError(f"{place}: an edit has find and replace, or define, or content; and a file: {edit}")
        patches.append(Patch(place, task, described, edits))
    return patches


def apply_patch(patch: Patch, sources: dict[str, str]) -> dict[str, str]:
    """Return the files of a submission with the patch applied.

    Args:
        sources: {file name: text} of the solutions.

    Raises:
        KitError: an edit does not fit exactly once, or what comes out is not Python.
    """
    files = dict(sources)
    for edit in patch.edits:
        name = edit["file"]
        if _form(edit) == "content":
            files[name] = edit["content"]
        elif name not in files:
            raise KitError(f"{patch.place}: the solutions have no file {name}")
        elif _form(edit) == "find":
            files[name] = _replace(files[name], edit, patch)
        else:
            files[name] = _define(files[name], edit, patch)
    for name, text in files.items():
        try:
            compile(text, name, "exec", dont_inherit=True)
        except SyntaxError as error:
            line = text.splitlines()[error.lineno - 1].strip() if error.lineno else ""
            raise KitError(f"{patch.place}: makes {name} invalid: {error.msg}: {line}") from None
    return files


def write_files(files: dict[str, str], folder: Path) -> Path:
    """Write {name: text} into a folder and return it."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def solution_texts(folder: Path) -> dict[str, str]:
    """Return {file name: text} of the files that a student hands in."""
    return {name: (folder / name).read_text(encoding="utf-8") for name in FILES}


def _form(edit: dict) -> str | None:
    forms = {
        "find": {"file", "find", "replace"},
        "define": {"file", "define"},
        "content": {"file", "content"},
    }
    for name, keys in forms.items():
        if keys <= set(edit) <= keys | {"inside"} and all(isinstance(value, str) for value in edit.values()):
            return name
    return None


def _line(text: str, pattern: str, number: int) -> int:
    """Line of the match with this number, counted from 0; 1 when there is none."""
    starts = [found.start() for found in re.finditer(pattern, text, re.MULTILINE)]
    return text.count("\n", 0, starts[number]) + 1 if number < len(starts) else 1


def _blocks(text: str, task: str) -> list[tuple[int, int]]:
    """Where the solution blocks of a task begin and end."""
    edges = rf"^ *# BEGIN SOLUTION {re.escape(task)}\n(.*?)^ *# END SOLUTION {re.escape(task)}$"
    return [found.span(1) for found in re.finditer(edges, text, re.MULTILINE | re.DOTALL)]


def _replace(text: str, edit: dict, patch: Patch) -> str:
    find, task = edit["find"], patch.task
    starts = [found.start() for found in re.finditer(re.escape(find), text)]
    if task is not None:
        blocks = _blocks(text, task)
        starts = [start for start in starts if any(a <= start and start + len(find) <= b for a, b in blocks)]
    if len(starts) != 1:
        where = f"the solution of task {task}" if task else edit["file"]
        raise KitError(f"{patch.place}: its text is {len(starts)} times in {where}, not once: {find!r}")
    return text[: starts[0]] + edit["replace"] + text[starts[0] + len(find) :]


def _define(text: str, edit: dict, patch: Patch) -> str:
    owner = ast.parse(text)
    if "inside" in edit:
        classes = [node for node in owner.body if isinstance(node, ast.ClassDef) and node.name == edit["inside"]]
        if not classes:
            raise KitError(f"{patch.place}: {edit['file']} has no class {edit['inside']}")
        owner = classes[0]
    code = textwrap.dedent(edit["define"]).strip("\n")
    try:
        names = {node.name for node in ast.parse(code).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    except SyntaxError as error:
        raise KitError(f"{patch.place}: line {error.lineno} of its code: {error.msg}") from None
    places = [node for node in owner.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names]
    if len(places) != 1:
        raise KitError(f"{patch.place}: {edit['file']} holds {len(places)} of {', '.join(sorted(names))}, not one")
    first = min([places[0].lineno, *(decorator.lineno for decorator in places[0].decorator_list)])
    lines = text.splitlines(keepends=True)
    indented = textwrap.indent(code, " " * places[0].col_offset) + "\n"
    return "".join(lines[: first - 1]) + indented + "".join(lines[places[0].end_lineno :])
