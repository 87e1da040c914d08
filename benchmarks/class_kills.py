"""A class of hostile and honest submissions, graded quietly, and killed and resumed again and again: the same files?

python benchmarks/class_kills.py [--pairs N] [--kills N] [--task ID ...] [--isolation LEVEL] [--seed N] [--json FILE]

The submissions are the fixtures of `tests/hostile` and their honest twins. Two jobs; each kill is SIGKILL at a random
moment. Compared is every file, byte for byte; and a result that is there is never written again.
"""

import argparse
import difflib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.hostile import Marks, build, load_fixtures

ROOT = Path(__file__).resolve().parents[1]


def make_class(folder, pairs, generator):
    fixtures = load_fixtures()
    for fixture in generator.sample(fixtures, min(pairs, len(fixtures))):
        for kind in ("hostile", "twin"):
            build(fixture, kind, folder / f"{fixture.name}-{kind}", Marks.fresh())


def start(folder, out, options, resume):
    command = [sys.executable, "-m", "tools.cli", "grade-class", str(folder), "--out", str(out), "--jobs", "2"]
    return subprocess.Popen(
        [*command, *options, *(["--resume"] if resume else [])], cwd=ROOT, stdout=subprocess.DEVNULL
    )


def results_in(out):
    return {path.name: path.stat().st_ino for path in (out / "results").glob("*.json")}


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--task", action="append", default=[])
    parser.add_argument("--isolation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    options = [part for task in args.task or ["1.2", "2.4"] for part in ("--task", task)]
    options += ["--isolation", args.isolation] if args.isolation else []
    generator = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        make_class(place / "class", args.pairs, generator)
        students = len(list((place / "class").iterdir()))
        started = time.monotonic()
        quiet_code = start(place / "class", place / "quiet", options, resume=False).wait()
        seconds = time.monotonic() - started
        print(f"quiet run of {students}: {seconds:.0f} s, exit code {quiet_code}", flush=True)

        out, kills, rewritten, before = place / "killed", 0, 0, {}
        while kills < args.kills:
            process = start(place / "class", out, options, resume=kills > 0)
            try:
                process.wait(timeout=generator.uniform(0, 1.5 * seconds / args.kills))
                break  # the class was done before the last kill
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            kills += 1
            now = results_in(out)
            rewritten += sum(now.get(name) != inode for name, inode in before.items())
            before = now
            print(f"killed {kills} times, {len(now)} of {students} results", flush=True)
        code = start(place / "class", out, options, resume=True).wait()
        rewritten += sum(results_in(out).get(name) != inode for name, inode in before.items())
        quiet, killed = files_in(place / "quiet"), files_in(out)
        different = sorted(name for name in quiet.keys() | killed.keys() if quiet.get(name) != killed.get(name))
        for name in different:
            texts = [files.get(name, b"").decode().splitlines() for files in (quiet, killed)]
            print("\n".join(difflib.unified_diff(*texts, f"quiet/{name}", f"killed/{name}", n=0, lineterm="")))
    print(f"{students} submissions, {kills} kills: {len(different)} files differ, {rewritten} results written twice")
    if args.json:
        figures = {"submissions": students, "kills": kills, "files_that_differ": len(different), "twice": rewritten}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(bool(different) or rewritten > 0 or code != quiet_code)


if __name__ == "__main__":
    sys.exit(main())
