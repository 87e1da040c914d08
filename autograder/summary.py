"""Composes the summary of a class from the results on disk: one row for each student, one for each task."""

import csv
import io
import json
import re
import statistics

from autograder.batch import ResultStore, Tally, write_whole
from autograder.identity import ClassFolder
from autograder.tasks import TaskTable

# Where a spreadsheet may see the start of a formula. One that parts cells at semicolons, as in half of Europe, also
# sees one behind them; cells with commas are written in quotes.
_FORMULA = re.compile(r"(?:^|(?<=;))(?=\s*[=+\-@＝＋－＠])")


def write_summary(found: ClassFolder, store: ResultStore, tally: Tally, table: TaskTable) -> dict:
    """Write `summary.json` and `summary.csv` beside the results.

    Args:
        found: the class.
        store: of its results; they are read one by one.
        tally: at the end of the run, or where it was stopped.
        table: of tasks.

    Returns:
        What `summary.json` holds. Nothing in it depends on the time.
    """
    rows, tasks, isolation, warnings, refused, remarks = [], {}, {}, set(), [], {}
    for one in found.superseded:
        remarks.setdefault(one["id"], []).append(f"older submission not graded: {one['source']}")
    for submission in found.submissions:
        results = store.load(submission)
        if results is None:
            continue
        row = {key: results[key] for key in ("id", "submission", "late", "total", "max_total", "isolation")}
        row["tasks"] = {task["id"]: task["points"] for task in results["tasks"]}
        row |= {"mAP": results["measures"].get("mAP")} if "measures" in results else {}
        row["remarks"] = remarks.get(submission.id, [])
        if results["flags"]:
            row["remarks"] = [*row["remarks"], f"to be looked at by a person: {len(results['flags'])} flags"]
        if results["seed"] is None:
            refused.append({"id": submission.id, "submission": submission.source, "reason": results["notes"][0]})
            row["remarks"] = [f"could not be taken in: {results['notes'][0]}", *row["remarks"]]
        else:
            isolation[results["isolation"]] = isolation.get(results["isolation"], 0) + 1
            warnings |= {results["isolation_warning"]} - {""}
        for task in results["tasks"]:
            tasks.setdefault(task["id"], []).append((task["points"], task["max_points"]))
        rows.append(row)
    totals = [row["total"] for row in rows]
    summary = {
        "complete": len(rows) == len(found.submissions),
        "submissions": len(found.submissions),
        "graded": len(rows),
        "max_total": max((row["max_total"] for row in rows), default=0),
        "mean": round(statistics.fmean(totals), 2) if totals else None,
        "median": statistics.median(totals) if totals else None,
        "isolation": dict(sorted(isolation.items())),
        "isolation_warnings": sorted(warnings),
        "tasks_sha256": table.digest,
        "tasks": [_task_row(table[task_id].title, task_id, points) for task_id, points in tasks.items()],
        "refused": refused,
        "not_graded": [{"id": student, "reason": reason} for student, reason in sorted(tally.not_graded.items())],
        "superseded": found.superseded,
        "notes": found.notes,
        "results": rows,
    }
    write_whole(store.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_whole(store.out / "summary.csv", _csv(rows, list(tasks)))
    return summary


def _task_row(title: str, task_id: str, points: list[tuple[int, int]]) -> dict:
    return {
        "id": task_id,
        "title": title,
        "max_points": points[0][1],
        "mean": round(statistics.fmean(got for got, _ in points), 2),
        "full": sum(got == most for got, most in points),
    }


def _csv(rows: list[dict], tasks: list[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measured = ["mAP"] if any("mAP" in row for row in rows) else []
    writer.writerow(["id", "submission", "late", "total", "max_total", *tasks, *measured, "isolation", "remarks"])
    for row in rows:
        whose = [safe_cell(row["id"]), safe_cell(row["submission"]), "late" if row["late"] else ""]
        points = [row["total"], row["max_total"], *(row["tasks"][task] for task in tasks)]
        points += [row[name] for name in measured]
        writer.writerow([*whose, *points, row["isolation"], safe_cell("; ".join(row["remarks"]))])
    return text.getvalue()


def safe_cell(text: str) -> str:
    """Return text that a spreadsheet shows and does not run, by a quote in front of each formula that it may see."""
    return _FORMULA.sub("'", text)
