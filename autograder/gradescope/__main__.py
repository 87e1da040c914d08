"""Grades the submission in Gradescope's container and keeps results.json true while it does.

`python -m autograder.gradescope [ROOT]`; ROOT is /autograder. This process loads no torch and runs nothing of the
submission. It starts the one that grades, writes down what that one reports, and ends it when the time is over.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from autograder.errors import KitError
from autograder.grade import NOT_RUN, refused_results
from autograder.gradebook.people import load_people
from autograder.gradescope.results import broken_json, results_json, write_results
from autograder.tasks import ROOT

SETTINGS = ROOT / "gradescope.json"  # {"minutes", "hidden"}, as `kit gradescope` has written them
# Of the time limit, for what is not grading: Gradescope starts the container and reads the results.
RESERVE = 0.1
GRADING = (sys.executable, "-m", "autograder.gradescope.grading")


def main(argv: list[str] | None = None, command: tuple[str, ...] = GRADING, settings: Path = SETTINGS) -> int:
    """Grade; whatever happens, results.json is there and the exit code is 0, for else students would not see it.

    Args:
        argv: the root of the container's layout.
        command: that grades.
        settings: a JSON file.
    """
    started = time.monotonic()
    root = Path(next(iter(sys.argv[1:] if argv is None else argv), "/autograder"))
    path = root / "results" / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_results(path, _grade(root, path, command, json.loads(settings.read_text(encoding="utf-8")), started))
    except Exception as error:  # the last resort: a student must not wait for a result that never comes
        reason = str(error) if isinstance(error, KitError) else f"{type(error).__name__}: {error}"
        print(f"not graded: {reason}", file=sys.stderr)
        write_results(path, broken_json(reason))
    return 0


def _grade(root: Path, path: Path, command: tuple[str, ...], settings: dict, started: float) -> dict:
    """Return the last content of results.json; those on the way are written here."""
    hidden, limit = settings["hidden"], 60 * settings["minutes"] * (1 - RESERVE)
    students = _students(root / "submission_metadata.json")

    def content(results: dict, absent: str = "") -> dict:
        return results_json(_said(results, absent), hidden, time.monotonic() - started, students)

    latest = refused_results("not run yet")
    write_results(path, content(latest, "not run yet"))
    # The grader stops by itself and says what it left out; a little later it is ended.
    child = subprocess.Popen(
        [*command, str(root / "submission"), str(limit)], stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    patience = threading.Timer(limit + 60 * settings["minutes"] * RESERVE / 3, _end, [child])
    patience.start()
    done = False
    try:
        for line in child.stdout:
            try:
                answer = json.loads(line)
            except ValueError:  # half a line is the last one: the grader was ended while it wrote
                continue
            if "error" in answer:
                raise KitError(answer["error"])
            latest, done = answer["results"], answer.get("done", False)
            if done:
                break
            write_results(path, content(latest, "not run yet"))
        else:
            child.wait()  # it ended before it was done; how, the exit code tells
    finally:
        patience.cancel()
        patience.join()
        _end(child)
        child.wait()
        child.stdout.close()
    if done:
        with contextlib.suppress(OSError, ValueError):  # for the staff: stdout is hidden from students
            print(latest["isolation_warning"], *latest["flags"], sep="\n")
        return content(latest)
    if time.monotonic() - started > limit:
        return content(latest, "not run: time is over")
    if child.returncode == -signal.SIGKILL:
        return content(latest, "not run: the grader was ended, most likely because the container has too little memory")
    return content(latest, f"not run: the grader ended with code {child.returncode}")


def _said(results: dict, absent: str) -> dict:
    """Return results whose undecided parts say why they are."""
    if not absent:
        return results
    tasks = []
    for task in results["tasks"]:
        undecided = (NOT_RUN, "not run yet")
        parts = [part | {"message": absent} if part["message"] in undecided else part for part in task["parts"]]
        tasks.append(task | {"parts": parts})
    notes = [note for note in results["notes"] if note != "not run yet"]
    return results | {"tasks": tasks, "notes": notes}


def _students(path: Path) -> tuple[str, ...]:
    """Return the ids of those who handed in; none where Gradescope does not say."""
    try:
        return tuple(student for members in load_people(metadata=path).members.values() for student in members)
    except KitError as error:
        print(error, file=sys.stderr)
        return ()


def _end(child: subprocess.Popen) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
