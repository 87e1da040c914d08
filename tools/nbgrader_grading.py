"""Grades with the kit inside `nbgrader autograde`: takes the place of the step that runs a student's notebook.

nbgrader's own way runs the notebook and believes what its graded cells print, in a kernel that has run the student's
cells before: whatever such a cell calls, a student can have redefined. Here no notebook runs. The kit grades the
handed-in `.py` files in its sandbox, and the graded cells receive the points as their output.
"""

from pathlib import Path

from nbformat.v4 import new_output
from nbgrader import utils
from nbgrader.preprocessors import NbGraderPreprocessor, OverwriteCells

from autograder.errors import KitError
from autograder.graders import Job, grade_job
from autograder.tasks import load_tasks
from tools.notebooks import grade_id


class KitGrading(NbGraderPreprocessor):
    """Writes the kit's points into the graded cells, from where nbgrader takes them into its gradebook."""

    def preprocess(self, nb, resources):
        """Grade the tasks that have a cell in the notebook.

        Args:
            nb: the notebook, its graded cells restored from the source by nbgrader.
            resources: of nbconvert; they name the folder where the student's files lie.

        Returns:
            The notebook with points in its graded cells, and the resources.

        Raises:
            KitError: the grader is broken, or a cell is not graded by the kit; nbgrader then records no grade. Without
                an error it would give full marks to every graded cell that shows no number.
        """
        cells = [cell for cell in nb.cells if utils.is_grade(cell) and not utils.is_solution(cell)]
        results = grade_files(Path(resources["metadata"]["path"]), {cell.metadata.nbgrader.grade_id for cell in cells})
        for cell in cells:
            row = results[cell.metadata.nbgrader.grade_id]
            if row["max_points"] != cell.metadata.nbgrader.points:
                raise KitError(
                    f"task {row['id']} has {row['max_points']} points in tasks.toml and "
                    f"{cell.metadata.nbgrader.points:g} in this course; make it anew with kit nbgrader"
                )
            cell.outputs = [
                new_output("stream", name="stdout", text=_in_words(row)),
                new_output("execute_result", {"text/plain": str(float(row["points"]))}, execution_count=1),
            ]
            cell.execution_count = 1
        return nb, resources


class RestoreCells(OverwriteCells):
    """Restores graded cells that students have changed or deleted, also beside copies of them.

    nbgrader takes the id of a copy away, of a cell that it does not know as well, and then stumbles over cells without
    one. Jupyter makes such copies when a cell is split.
    """

    def add_missing_grade_cells(self, nb, resources):
        """Add what is missing; a cell that has lost its id becomes an ordinary one."""
        for cell in nb.cells:
            if "grade_id" not in cell.metadata.get("nbgrader", {"grade_id": ""}):
                del cell.metadata["nbgrader"]
        return super().add_missing_grade_cells(nb, resources)


def grade_files(folder: Path, grade_ids: set[str]) -> dict[str, dict]:
    """Grade the .py files of a folder.

    Args:
        folder: with a student's files, and copies of the kit's that play no part.
        grade_ids: of the cells to be graded.

    Returns:
        The results of the tasks by the ids of their cells.

    Raises:
        KitError: a cell belongs to no task that is graded, or the grader is broken.
    """
    known = {grade_id(task.id): task.id for task in load_tasks().graded}
    if foreign := sorted(grade_ids - set(known)):
        raise KitError(f"no task for the graded cell {foreign[0]!r}; the kit grades {', '.join(known)}")
    if not grade_ids:
        return {}
    files = sorted(path for path in folder.glob("*.py") if path.is_file() and not path.is_symlink())
    paths = tuple(str(path.resolve()) for path in files or [folder])
    results = grade_job(Job(paths, tuple(known[one] for one in sorted(grade_ids))))
    return {grade_id(row["id"]): row for row in results["tasks"]}


def _in_words(row: dict) -> str:
    lines = []
    for part in row["parts"]:
        sign = "✓" if part["status"] == "passed" else "✗"
        lines.append(f"{sign} {part['title']} ({part['points']}/{part['max_points']})")
        lines += [f"    {part['message']}"] if part["message"] else []
    return "\n".join(lines) + "\n"
