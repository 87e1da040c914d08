"""The table of tasks: reads `tasks.toml`, checks it, and works out the points that are really given."""

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from autograder.errors import KitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FILES = ("common.py", "one_stage_detector.py")  # what a student hands in


@dataclass(frozen=True)
class Part:
    """A share of a task's points, earned when every graded test of the part passes."""

    id: str
    title: str
    points: int
    hidden: bool = False
    at_least: float | None = None  # mean average precision in percent that decides the part


@dataclass(frozen=True)
class Task:
    """One row of the table; the points are those in force after `given` and `optional` are applied."""

    id: str
    title: str
    file: str
    symbols: tuple[str, ...]
    points: int
    parts: tuple[Part, ...]
    needs: tuple[str, ...] = ()
    given: bool = False
    optional: bool = False
    seconds: float = 20.0
    forbidden: tuple[str, ...] = ()  # library functions that are taken away while this task is graded

    @property
    def measures(self) -> bool:
        """Whether the task measures a trained detector on held-out images."""
        return any(part.at_least is not None for part in self.parts)

    def part(self, part_id: str) -> Part:
        """Return the part with this id; `KeyError` when there is none."""
        return {part.id: part for part in self.parts}[part_id]


@dataclass(frozen=True)
class TaskTable:
    """All tasks in the order of the table.

    Attributes:
        tasks: every task, given ones too.
        total: sum of the points of the tasks that are not given.
        memory_gib: limit of one probe.
        digest: SHA-256 of the file, recorded in every result.
        colab_url: where the notebooks are published, for their "Open in Colab" badge; empty for none.
    """

    tasks: tuple[Task, ...]
    total: int
    memory_gib: float
    digest: str
    colab_url: str = ""

    @property
    def graded(self) -> tuple[Task, ...]:
        """The tasks that students solve."""
        return tuple(task for task in self.tasks if not task.given)

    def __getitem__(self, task_id: str) -> Task:
        for task in self.tasks:
            if task.id == task_id:
                return task
        given = ", ".join(task.id for task in self.tasks if task.given)
        raise KitError(
            f"no task {task_id!r}; the tasks are {', '.join(task.id for task in self.graded)}"
            + (f"; given, with nothing to grade: {given}" if given else "")
        )

    def require_graded(self, task_ids: Iterable[str]) -> None:
        """Raise `KitError` unless students solve each of these tasks."""
        for task_id in task_ids:
            if self[task_id].given:
                raise KitError(f"task {task_id} is not graded: the table of tasks says given = true")

    def symbols_outside(self, task: Task) -> tuple[str, ...]:
        """Return the symbols that are replaced while `task` is graded: those of all other tasks, and given ones."""
        return tuple(
            dict.fromkeys(
                symbol
                for symbol in (*(symbol for other in self.tasks for symbol in other.symbols), *GIVEN)
                if symbol not in task.symbols and GIVEN.get(symbol) not in task.symbols
            )
        )


# Functions that students receive solved whatever the table says, and that other tasks call; each with the function that
# it is built on: while that one is graded, an answer to the given one would be the answer to the task.
GIVEN = {"common.class_spec_nms": "common.nms"}


def default_table_path() -> Path:
    """Return the table's place: beside the solutions, or beside this package in a student's copy."""
    source = ROOT / "solutions" / "tasks.toml"
    return source if source.is_file() else Path(__file__).with_name("tasks.toml")


def load_tasks(path: Path | None = None, given: Mapping[str, bool] = MappingProxyType({})) -> TaskTable:
    """Read and check the table.

    Args:
        path: of the TOML file; by default the kit's own.
        given: {task id: value} that stand in for what the file says.

    Returns:
        The table with the points in force: they sum to `total` whatever is given.

    Raises:
        KitError: the file is missing or wrong; the message names file and line.
    """
    path = path or default_table_path()
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise KitError(f"{path}: the table of tasks cannot be read ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise KitError(f"{path}: {error}") from None

    def wrong(task_id: str, problem: str) -> KitError:
        found = re.search(rf'^id\s*=\s*"{re.escape(task_id)}"', text, re.MULTILINE)
        line = text[: found.start()].count("\n") + 1 if found else 1
        return KitError(f"{path}:{line}: task {task_id}: {problem}")

    tasks: list[Task] = []
    for row in raw.get("task", []):
        task_id = str(row.get("id", "?"))
        missing = [key for key in ("title", "file", "symbols", "points", "part") if key not in row]
        unknown = sorted(set(row) - {"id", "part", "title", "file", "symbols", "points"} - _OPTIONAL_KEYS)
        if missing or unknown:
            raise wrong(task_id, f"missing {', '.join(missing)}" if missing else f"unknown key {', '.join(unknown)}")
        if task_id in {task.id for task in tasks}:
            raise wrong(task_id, "appears twice")
        if row["file"] not in FILES:
            raise wrong(task_id, f"file must be one of {', '.join(FILES)}, not {row['file']!r}")
        try:
            parts = tuple(Part(**part) for part in row["part"])
        except TypeError as error:
            raise wrong(task_id, f"a part is written wrongly ({error})") from None
        if any(len({getattr(part, key) for part in parts}) < len(parts) for key in ("id", "title")):
            raise wrong(task_id, "two of its parts have the same id or title")
        if any(not isinstance(value, int) or value < 0 for value in (row["points"], *(part.points for part in parts))):
            raise wrong(task_id, "points must be whole numbers, 0 or more")
        if any(not _is_threshold(part) for part in parts):
            raise wrong(task_id, "at_least is a number above 0, up to 100, of a part with hidden = true")
        if sum(part.points for part in parts) != row["points"]:
            raise wrong(task_id, f"its parts sum to {sum(part.points for part in parts)}, not to {row['points']}")
        tasks.append(
            Task(
                id=task_id,
                title=row["title"],
                file=row["file"],
                symbols=tuple(row["symbols"]),
                points=row["points"],
                parts=parts,
                needs=tuple(row.get("needs", ())),
                given=given.get(task_id, row.get("given", False)),
                optional=row.get("optional", False),
                seconds=row.get("seconds", raw.get("limits", {}).get("seconds", 20)),
                forbidden=tuple(row.get("forbidden", ())),
            )
        )
    for task in tasks:
        for needed in task.needs:
            if needed not in {other.id for other in tasks}:
                raise wrong(task.id, f"needs a task {needed!r} that is not in the table")
    total = raw.get("total", 100)
    base = sum(task.points for task in tasks if not task.optional)
    if base != total:
        line = text[: re.search(r"^total\b", text, re.MULTILINE).start()].count("\n") + 1 if "total" in raw else 1
        raise KitError(f"{path}:{line}: the points of the tasks sum to {base}, not to total = {total}")
    if not any(task.points for task in tasks if not task.given):
        raise KitError(f"{path}:1: every task is given, nothing is left to grade")
    return TaskTable(
        tasks=tuple(_points_in_force(tasks, total)),
        total=total,
        memory_gib=raw.get("limits", {}).get("memory_gib", 4),
        digest=hashlib.sha256(text.encode()).hexdigest(),
        colab_url=raw.get("notebook", {}).get("colab_url", ""),
    )


def _is_threshold(part: Part) -> bool:
    """Whether `at_least`, where there is one, is a percentage; students have no held-out images, so it is hidden."""
    if part.at_least is None:
        return True
    return type(part.at_least) in (int, float) and 0 < part.at_least <= 100 and part.hidden is True


_OPTIONAL_KEYS = {"needs", "given", "optional", "seconds", "forbidden"}


def _points_in_force(tasks: list[Task], total: int) -> list[Task]:
    """Spread `total` over the tasks that are not given, in proportion to their points, in whole points."""
    active = [task for task in tasks if not task.given]
    points = dict(zip((task.id for task in active), _share([task.points for task in active], total), strict=True))
    result = []
    for task in tasks:
        if task.given:
            result.append(task)
            continue
        shares = _share([part.points for part in task.parts], points[task.id])
        parts = tuple(replace(part, points=share) for part, share in zip(task.parts, shares, strict=True))
        result.append(replace(task, points=points[task.id], parts=parts))
    return result


def _share(weights: list[int], total: int) -> list[int]:
    """Split `total` into whole numbers in proportion to `weights` (largest remainder, earlier first on ties)."""
    exact = [Fraction(weight * total, sum(weights)) for weight in weights]
    shares = [int(value) for value in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares
