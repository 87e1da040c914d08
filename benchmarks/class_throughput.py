"""How many submissions a minute `kit grade-class` grades with one job and with two, and what memory its processes take.

python benchmarks/class_throughput.py [--students N] [--task ID ...] [--isolation LEVEL] [--json FILE]

Every student hands in the solutions with a remark of their own, so that every seed differs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from watched import ROOT, run_watched

GOAL_SPEEDUP, GOAL_GRADER_GIB, GOAL_WORKER_GIB = 1.7, 1.0, 1.5


def make_class(folder, students):
    for number in range(students):
        student = folder / f"student{number:03}"
        student.mkdir(parents=True)
        for name in ("common.py", "one_stage_detector.py"):
            text = (ROOT / "solutions" / name).read_text(encoding="utf-8")
            (student / name).write_text(f"{text}\n# student {number}\n", encoding="utf-8")


def grade(folder, out, jobs, options):
    """Grade a class; returns (seconds, peaks)."""
    command = [sys.executable, "-m", "tools.cli", "grade-class", str(folder), "--out", str(out), "--jobs", str(jobs)]
    # Looking at the memory takes time of its own, some 20 ms for a process, from whoever needs the cores.
    seconds, peaks, code = run_watched([*command, *options], every=2.0)
    if code:
        raise SystemExit(f"kit grade-class ended with {code}")
    return seconds, peaks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=8)
    parser.add_argument("--task", action="append", default=[])
    parser.add_argument("--isolation")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    options = [part for task in args.task for part in ("--task", task)]
    options += ["--isolation", args.isolation] if args.isolation else []
    rates, peaks = {}, {}
    with tempfile.TemporaryDirectory() as place:
        make_class(Path(place) / "class", args.students)
        for jobs in (1, 2):
            seconds, found = grade(Path(place) / "class", Path(place) / f"out{jobs}", jobs, options)
            rates[jobs] = 60 * args.students / seconds
            peaks = {kind: max(size, peaks.get(kind, 0)) for kind, size in found.items()}
            print(f"{jobs} jobs: {rates[jobs]:6.1f} submissions a minute", flush=True)
    speedup = rates[2] / rates[1]
    gib = {kind: size / 2**30 for kind, size in peaks.items()}
    print(f"two jobs against one: {speedup:.2f} x (goal {GOAL_SPEEDUP})")
    print(f"largest grader: {gib['grader']:.2f} GiB (goal below {GOAL_GRADER_GIB})")
    print(f"largest process of a worker: {gib['worker']:.2f} GiB (goal below {GOAL_WORKER_GIB})")
    if args.json:
        figures = {"ratios": {"two_jobs_over_one": speedup}, "submissions_per_minute": rates, "peak_gib": gib}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
