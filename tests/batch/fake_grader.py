"""A class and a function in the place of `grade_job`, fast enough to be killed a hundred times.

As a script, `fake_grader.py CLASS OUT [--resume]` grades CLASS with it in two threads.
"""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from autograder.batch import Options, ResultStore, Tally, grade_class
from autograder.errors import KitError
from autograder.graders import GraderDied, Job
from autograder.identity import find_submissions
from autograder.summary import write_summary
from autograder.tasks import load_tasks

TABLE = load_tasks()
OPTIONS = Options(tasks=("1.2",))


def make_class(folder: Path, instructions: dict) -> Path:
    """A class folder; each student's file tells the fake grader what to do: a number of points, or a word."""
    for student, text in instructions.items():
        (folder / student).mkdir(parents=True)
        (folder / student / "common.py").write_text(str(text))
    return folder


def fake_grade(job: Job) -> dict:
    """Do what the submission says."""
    path = Path(job.paths[0])
    what = (path / "common.py").read_text()
    time.sleep(0.004 * (1 + len(path.name) % 3))
    if what == "kit":
        raise KitError("the reference is missing")
    if what == "die":
        raise GraderDied("the grader ended: Killed")
    if what == "kill":  # the process of a pool
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "refuse":
        return results(0, None, [f"{path.name}: holds neither file"])
    return results(int(what), 7, [])


def results(points: int, seed: int | None, notes: list[str]) -> dict:
    task = TABLE["1.2"]
    row = {"id": "1.2", "title": task.title, "points": points, "max_points": 6, "status": "passed", "message": ""}
    return {
        "total": points,
        "max_total": 6,
        "isolation": "process" if seed else "not started",
        "isolation_warning": "only a fake" if points == 5 else "",
        "seed": seed,
        "public_only": False,
        "tasks_sha256": TABLE.digest,
        "notes": notes,
        "tasks": [row],
        "flags": ["common.py, line 1: eval"] if points == 4 else [],
    }


def run(folder: Path, out: Path, resume=False, grade=fake_grade, executor=None, in_flight=2, on_change=lambda *_: None):
    """Grade a class; returns (tally, summary)."""
    found = find_submissions(folder, leave_out=out)
    store = ResultStore(out, TABLE, OPTIONS)
    tally = Tally(len(found.submissions))
    with store.opened(resume), executor or ThreadPoolExecutor(in_flight) as pool:
        grade_class(found, store, OPTIONS, pool, in_flight, tally, on_change, grade)
        return tally, write_summary(found, store, tally, TABLE)


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])

    def logged(job):
        student = Path(job.paths[0]).name
        if (out / "results" / f"{student}.json").exists():
            (out.parent / "graded_twice").write_text(student)
        time.sleep(0.03)  # room for kills between two results
        return fake_grade(job)

    run(folder, out, "--resume" in sys.argv, logged)


if __name__ == "__main__":
    main()
