"""The process that grades: writes the results so far, a line of JSON each time a test ends, to its standard output.

`python -m autograder.gradescope.grading SUBMISSION SECONDS`. A process of its own, so that whatever ends it, somebody
is left to say so.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from autograder.archives import SubmissionRefused
from autograder.errors import KitError
from autograder.gradescope.memory import LEAST, container_memory, memory_for_probe, own_memory
from autograder.tasks import ROOT, TaskTable, load_tasks

HELD_OUT = "held-out"  # folder in the zip


def main() -> None:
    """Grade, and answer in lines: {"results": ..., "done": bool} or {"error": what is wrong with the kit}."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what anything prints is no answer

    def answer(**content) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    from autograder.grade import grade, refused_results

    submission, seconds = Path(sys.argv[1]), float(sys.argv[2])
    try:
        table, held_out = table_for_container(load_tasks()), images_of_the_zip()
        try:
            results = grade(
                submission,
                table,
                seconds=seconds,
                on_progress=lambda so_far: answer(results=so_far),
                held_out=held_out,
            )
        except SubmissionRefused as refused:
            results = refused_results(str(refused), table, held_out=held_out)
        answer(results=results, done=True)
    except KitError as error:
        answer(error=str(error))


def images_of_the_zip(root: Path = ROOT):
    """Return the `HeldOut` images that the autograder was built with; None for none."""
    from autograder.held_out import HeldOut

    settings = json.loads((root / "gradescope.json").read_text(encoding="utf-8"))
    return HeldOut(str(root / HELD_OUT), **settings["held_out"]) if "held_out" in settings else None


def table_for_container(table: TaskTable) -> TaskTable:
    """Return the table with as much memory for a probe as the container has left."""
    container = container_memory()
    if container is None or container >= table.memory_gib * 2**31:
        return table
    import autograder.oracle  # noqa: F401 - the grader at its full size

    room = memory_for_probe(container, own_memory())
    if room == LEAST:
        print(f"{container >> 20} MiB of memory are too few for these versions of torch; see docs/instructor.md")
    return replace(table, memory_gib=min(table.memory_gib, round(room / 2**30, 2)))


if __name__ == "__main__":
    main()
