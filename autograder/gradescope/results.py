"""Turns the kit's results into Gradescope's results.json.

A part of a task is a test, numbered "2.3.1". Parts with hidden tests get the visibility that the course has chosen;
while one of them is hidden, Gradescope hides the total as well.
"""

import json
import math
from pathlib import Path

from autograder.batch import write_whole

VISIBILITIES = ("visible", "after_due_date", "after_published", "hidden")
APOLOGY = "This is no fault of yours: please tell the course staff."


def results_json(results: dict, hidden: str, seconds: float, students: tuple[str, ...] = ()) -> dict:
    """Return what results.json holds.

    Args:
        results: of `autograder.grade.grade`, whole or on the way.
        hidden: visibility of hidden tests, one of `VISIBILITIES`.
        seconds: since grading began.
        students: ids of those who handed in.

    Returns:
        A dict of plain values; every number is finite.
    """
    about = ("isolation", "isolation_warning", "seed", "versions", "tasks_sha256", "flags", "total", "max_total")
    return {
        "execution_time": round(seconds, 1),
        "output": _summary(results),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [
            _test(task, part, f"{task['id']}.{number}", hidden)
            for task in results["tasks"]
            for number, part in enumerate(task["parts"], start=1)
        ],
        "leaderboard": _leaderboard(results),
        "extra_data": {"students": list(students), **{key: results.get(key) for key in about}},
    }


def broken_json(reason: str) -> dict:
    """Return what results.json holds when the kit, not the submission, is broken; of the reason only the first line,
    as what follows may quote a hidden test."""
    reason = next(iter(reason.splitlines()), "")[:300]
    return {
        "score": 0,
        "output": f"The autograder could not grade this submission: {reason}\n{APOLOGY}",
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
    }


def write_results(path: Path, content: dict) -> None:
    """Write results.json so that at every moment there is a whole one.

    Raises:
        ValueError: a number is not finite, which is no JSON.
    """
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _test(task: dict, part: dict, number: str, hidden: str) -> dict:
    return {
        "name": f"{task['title']}: {part['title']}",
        "number": number,
        "score": part["points"],
        "max_score": part["max_points"],
        "status": "passed" if part["status"] == "passed" else "failed",
        "output": part["message"],
        "visibility": hidden if part["hidden"] else "visible",
    }


def _summary(results: dict) -> str:
    """Return the lines above the tests: they go to students, so of the isolation they tell the level alone."""
    lines = [f"isolation: {results['isolation']}" + (" (weaker than wanted)" if results["isolation_warning"] else "")]
    return "\n".join([*lines, *(f"note: {note}" for note in results["notes"])])


def _leaderboard(results: dict) -> list[dict]:
    """Return the figures of trained weights, where they were measured."""
    return [
        {"name": name, "value": round(value, 4), "order": "desc"}
        for name, value in results.get("measures", {}).items()
        if math.isfinite(value)
    ]
