"""What the grader is measured with: mutants of the solutions, and honest variants."""

from dataclasses import dataclass, field
from pathlib import Path

from autograder.errors import KitError
from autograder.oracle import SOLUTIONS
from autograder.oracle.patches import apply_patch, read_patches, solution_texts
from autograder.tasks import ROOT, TaskTable, load_tasks

MUTANTS, VARIANTS = ROOT / "tests" / "mutants", ROOT / "tests" / "variants"


@dataclass(frozen=True)
class Specimen:
    """A submission whose right grade is known.

    Attributes:
        name: "2.2/no-stride" of a mutant, "loops" of a variant.
        why: what is wrong with it, or what it does differently.
        files: {file name: text}.
        task: that must lose points; None for a variant.
        hint: part of the diagnosis that a public test should give, "" when none is expected.
        also: why a mutant costs points in other tasks as well, "" when it must not.
        loses: "task/part" of the parts that a partial solution loses.
        given: {task id: value}, see `load_tasks`.
    """

    name: str
    why: str
    files: dict[str, str] = field(repr=False)
    task: str | None = None
    hint: str = ""
    also: str = ""
    loses: tuple[str, ...] = ()
    given: tuple[tuple[str, bool], ...] = ()

    @property
    def table(self) -> TaskTable:
        """The table that it is graded by: a mutant of a given task makes it a task."""
        return load_tasks(given=dict(self.given))


def read_mutants(folder: Path = MUTANTS) -> list[Specimen]:
    """Read every mutant; `KitError` with file and line when one is written wrongly or does not apply."""
    table, sources, specimens = load_tasks(), solution_texts(SOLUTIONS), []
    for path in _files(folder):
        for patch in read_patches(path, "mutant", table, ("name", "why"), ("hint", "also")):
            if patch.task is None:
                raise KitError(f"{patch.place}: the file does not say which task its mutants belong to")
            fields = {**patch.fields, "name": f"{patch.task}/{patch.fields['name']}"}
            given = ((patch.task, False),) if table[patch.task].given else ()
            files = apply_patch(patch, sources)
            if files == sources:
                raise KitError(f"{patch.place}: changes nothing")
            specimens.append(Specimen(files=files, task=patch.task, given=given, **fields))
            _require_new_name(specimens, patch)
    return specimens


def read_variants(folder: Path = VARIANTS) -> list[Specimen]:
    """Read every honest variant and partial solution, the solutions themselves first."""
    table, sources = load_tasks(), solution_texts(SOLUTIONS)
    specimens = [Specimen("solutions", "as they are", sources)]
    known = {f"{task.id}/{part.id}" for task in table.tasks for part in task.parts}
    for path in _files(folder):
        for patch in read_patches(path, "variant", table, ("name", "why"), ("loses",)):
            loses = patch.fields.pop("loses", [])
            if not isinstance(loses, list) or not set(loses) <= known:
                raise KitError(f"{patch.place}: loses must list parts as 'task/part', not {loses!r}")
            specimens.append(Specimen(files=apply_patch(patch, sources), loses=tuple(loses), **patch.fields))
            _require_new_name(specimens, patch)
    return specimens


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.toml"))
    if not found:
        raise KitError(f"{folder}: holds no .toml file")
    return found


def _require_new_name(specimens: list[Specimen], patch) -> None:
    if specimens[-1].name in {other.name for other in specimens[:-1]}:
        raise KitError(f"{patch.place}: the name {specimens[-1].name!r} appears twice")
