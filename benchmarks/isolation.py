"""What does isolation cost? `kit grade solutions` at `bubblewrap` against `process`, both against importing torch.

    python benchmarks/isolation.py [--repeats 3] [--task ID ...] [--json FILE]

The commands take turns, so that a busy moment of the machine hits all of them; the best time of each counts. Memory is
the largest resident size: the grader's as the kernel reports it when it ends, the worker's as seen every 20 ms (what a
forked probe shares with the process that forked it is counted in both, so the largest single process is given).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
LEVELS = ("process", "bubblewrap")
TARGET_SECONDS, TARGET_GRADER_MIB, TARGET_WORKER_MIB = 0.5, 1024, 1536
_TICK_SECONDS = 0.02


def grade_command(level, tasks):
    chosen = [word for task in tasks for word in ("--task", task)]
    return [sys.executable, "-m", "tools.cli", "grade", str(ROOT / "solutions"), "--isolation", level, *chosen]


def measure(command):
    """Run a command; return seconds, and the largest resident size in MiB of it and of a worker below it."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    worker = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        worker = max(worker, largest_worker(process.pid))
        time.sleep(_TICK_SECONDS)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024, worker / 2**20


def largest_worker(pid):
    largest = 0
    try:
        for process in psutil.Process(pid).children(recursive=True):
            try:
                largest = max(largest, process.memory_info().rss)
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return largest


def print_table(best, peaks):
    """Print the commands side by side."""
    rows = {
        "seconds, best run": [f"{seconds:.2f}" for seconds in best.values()],
        "times the import": [f"{seconds / best['import']:.2f}" for seconds in best.values()],
        "grader, peak MiB": [str(grader) for grader, _ in peaks.values()],
        "worker, peak MiB": [str(worker or "-") for _, worker in peaks.values()],
    }
    print(f"{'':18}", *(f"{name:>12}" for name in best))
    for name, cells in rows.items():
        print(f"{name:18}", *(f"{cell:>12}" for cell in cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--task", action="append", default=[], metavar="ID", help="grade this task only")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()

    commands = {"import": [sys.executable, "-c", "import torch, torchvision"]}
    commands |= {level: grade_command(level, args.task) for level in LEVELS}
    runs = {name: [] for name in commands}
    for _ in range(args.repeats):
        for name, command in commands.items():
            runs[name].append(measure(command))
    best = {name: min(seconds for seconds, _, _ in rows) for name, rows in runs.items()}
    peaks = {name: [round(max(column)) for column in zip(*(row[1:] for row in rows))] for name, rows in runs.items()}
    result = {
        **{f"{name}_seconds": round(seconds, 2) for name, seconds in best.items()},
        "overhead_seconds": round(best["bubblewrap"] - best["process"], 2),
        **{f"{level}_to_import": round(best[level] / best["import"], 2) for level in LEVELS},
        "grader_mib": max(peaks[level][0] for level in LEVELS),
        "worker_mib": max(peaks[level][1] for level in LEVELS),
    }
    print_table(best, peaks)
    print(f"bubblewrap - process: {result['overhead_seconds']:+.2f} s (goal: at most {TARGET_SECONDS})")
    print(f"memory goals: grader below {TARGET_GRADER_MIB} MiB, worker below {TARGET_WORKER_MIB} MiB")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
