"""A class of hostile and honest submissions, graded quietly, and killed and resumed again and again: the same files?

python benchmarks/class_kills.py [--each N] [--kills N] [--task ID ...] [--isolation LEVEL] [--seed N] [--json FILE]

The submissions: N of `tests/hostile`, and N of the variants and mutants of `kit verify`. Two jobs; each kill is
SIGKILL at a random moment. Compared is every file, byte for byte; and a result that is there is never written again.
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

from autograder.oracle.patches import write_files
from tools.hostile import Marks, build, load_fixtures
from tools.specimens import read_mutants, read_variants

ROOT = Path(__file__).resolve().parents[1]


def make_class(folder, each, generator):
    """Write hostile submissions, honest variants and mutants, mixed as their names are."""
    # One returns memory that it did not write: the reason why it is wrong differs between any two runs.
    fixtures = [fixture for fixture in load_fixtures() if fixture.steady]
    for fixture in generator.sample(fixtures, min(each, len(fixtures))):
        build(fixture, "hostile", folder / f"{fixture.name}-hostile", Marks.fresh())
    variants, mutants = read_variants(), read_mutants()
    chosen = generator.sample(variants, min(each // 2, len(variants)))
    for specimen in chosen + generator.sample(mutants, each - len(chosen)):
        place = folder / specimen.name.replace("/", "-")
        place.mkdir(parents=True)
        write_files(specimen.files, place)


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
    parser.add_argument("--each", type=int, default=30)
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
        make_class(place / "class", args.each, generator)
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
