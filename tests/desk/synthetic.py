"""Result files of a class that nobody ever handed in, in the format of `kit grade-class`."""

import json
import random
from pathlib import Path

from autograder.tasks import load_tasks

TABLE = load_tasks()
EVIL_NAME = "<script>document.title='owned'</script>"
FORMULA = "=cmd()"
MESSAGES = (
    "deltas: 12 of 40 values differ, the worst at (3, 1): expected 0.5, got -0.5; the signs are turned (common.py:81)",
    "shape (4, 2) expected, got (2, 4)",
    "TypeError: unsupported operand type(s) for *: 'NoneType' and 'int' (common.py:81)",
)
STOPPED = "stopped after 20 s"
FORBIDDEN = "this task asks you to write nms yourself; torchvision's is for comparing with"


def student(name: str, level: float = 1.0, run: int = 0, messages=MESSAGES, **other) -> dict:
    """One student's results.

    Args:
        name: id of the student.
        level: probability that a part is passed.
        run: another number gives other verdicts.
        messages: of the parts that fail.
        other: keys to replace.
    """
    chance, rows = random.Random(f"{name}{run}"), []
    for task in TABLE.graded:
        parts = []
        for part in task.parts:
            passed = chance.random() < level
            status = "passed" if passed else "failed" if level else "not implemented"
            message = "" if passed else chance.choice(messages) if level else "not implemented yet"
            parts.append({"id": part.id, "title": part.title, "hidden": part.hidden})
            parts[-1] |= {"points": part.points * passed, "max_points": part.points, "status": status}
            parts[-1]["message"] = message
        points = sum(part["points"] for part in parts)
        failing = [part for part in parts if part["status"] != "passed"]
        status = "passed" if not failing else "partial" if points else failing[0]["status"]
        row = {"id": task.id, "title": task.title, "points": points, "max_points": task.points, "status": status}
        rows.append(row | {"message": failing[0]["message"] if failing else "", "parts": parts})
    results = {
        "id": name,
        "submission": f"{name}.zip",
        "submission_sha256": f"{run}-{name}",
        "late": False,
        "total": sum(row["points"] for row in rows),
        "max_total": 100,
        "isolation": "bubblewrap",
        "isolation_warning": "",
        "seed": 1,
        "public_only": False,
        "tasks_sha256": TABLE.digest,
        "versions": {"torch": "2.15.0"},
        "notes": [],
        "tasks": rows,
        "flags": [],
    }
    return results | other


def write_results(folder: Path, students: list[dict]) -> Path:
    """Write result files and a summary as `kit grade-class --out folder` does; returns `folder`."""
    (folder / "results").mkdir(parents=True)
    for index, one in enumerate(students):
        (folder / "results" / f"{index:03}.json").write_text(json.dumps(one), encoding="utf-8")
    summary = {"complete": True, "submissions": len(students), "graded": len(students)}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def big_class() -> list[dict]:
    """300 students: better and worse ones, and some that a person should look at."""
    chance = random.Random(7)
    students = [student(f"student{i:03}", chance.betavariate(4, 1.5)) for i in range(288)]
    students += [student("slow", 0.4, messages=[STOPPED]), student("borrowed", 0.4, messages=[FORBIDDEN])]
    students += [student("nobody-began", 0.0), student("perfect", 1.0)]
    students += [student(EVIL_NAME, 0.5, flags=[f"common.py:3: uses {EVIL_NAME}"]), student(FORMULA, 0.7, late=True)]
    students += [student("weakly-isolated", 0.9, isolation="process", isolation_warning="graded at process: look")]
    students += [
        student("broken-zip", 0.0, seed=None, notes=["broken-zip.zip: not an archive"], isolation="not started")
    ]
    students += [student(f"Ünïcode {i} with a long name, as some people have", 0.8) for i in range(4)]
    return students
