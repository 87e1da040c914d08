"""A class of 300 graded, reported and exported on two cores; beside it `nbgrader autograde` on twenty of them.

python benchmarks/class_of_300.py [--students N] [--nbgrader N] [--task ID ...] [--seed N] [--place DIR] [--json FILE]

The class: honest variants and mutants of `kit verify`, the hostile submissions of `tests/hostile`, and the solutions
with a remark of each student's own, so that nobody's hidden inputs are like anybody else's. `kit grade-class --jobs 2`,
`kit report` with a page for each student, and `kit gradebook` run on it, each in a process of its own.

nbgrader gets honest submissions and mutants alone: a hostile one would do to its kernel, and to this machine, whatever
it likes. Both sides grade the same ones, one side after the other. What each side's seconds hold:

    kit         one `kit grade-class --jobs 2`: start of the graders, intake, a new worker in the strongest sandbox for
                every submission, a fork with limits for every probe, all graded tests, results as files
    nbgrader    one `nbgrader autograde`, stock configuration: two conversions of the notebook, a new kernel for every
                submission, all the same graded tests with the same inputs, called in that kernel (see `in_kernel.py`),
                points in gradebook.db; nbgrader has no parallel grading, but torch may use both cores. On a machine
                that does something else, torch's two threads wait for each other, and this takes many times as
                long: measure on a quiet one, or give torch one thread with OMP_NUM_THREADS=1
      cells     the notebook holds the ten graded cells and nothing else: the least that nbgrader can be asked to do
      notebook  the assignment's own notebook, which nbgrader runs from top to bottom: pictures, quick training (150
                iterations), evaluation; this is what a course that collects this notebook waits for

A run that was stopped goes on when it is started again; the seconds of the parts add up. Start anew with another
--place, or after removing it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import plain_nbgrader
from watched import ROOT, run_watched

from autograder.batch import write_whole
from autograder.oracle.patches import write_files
from tools.hostile import Marks, build, load_fixtures
from tools.specimens import read_mutants, read_variants

SIZE, VARIANTS, MUTANTS, HOSTILE = 300, 49, 100, 40  # of the full class; the rest are solutions
GOAL_RATIO = 3.0
KIT = (sys.executable, "-m", "tools.cli")


@dataclass
class Student:
    """One submission of the class: "variant", "mutant", "hostile" or "solution", and which one."""

    kind: str
    name: str

    @property
    def ends_in_a_kernel(self) -> bool:
        """Whether it can be given to nbgrader: nothing there stops an NMS that never ends, or that is forbidden."""
        return self.kind != "hostile" and not self.name.startswith("4.")


def make_class(folder, count, generator):
    """Write `count` submissions; returns {student: Student}, mixed."""
    specimens = [one for one in read_variants() if not one.loses]
    variants = {one.name: one for one in specimens if one.name != "solutions"}
    mutants = {one.name: one for one in read_mutants() if not one.given}  # those of a given task cost nothing here
    fixtures = {one.name: one for one in load_fixtures()}
    chosen = []
    for kind, names, share in (
        ("hostile", fixtures, HOSTILE),
        ("mutant", mutants, MUTANTS),
        ("variant", variants, VARIANTS),
    ):
        number = min(round(count * share / SIZE), len(names))
        chosen += [Student(kind, name) for name in generator.sample(sorted(names), number)]
    chosen += [Student("solution", f"remark {number}") for number in range(count - len(chosen))]
    generator.shuffle(chosen)
    students = {f"student{number:03}": one for number, one in enumerate(chosen)}
    solutions = specimens[0].files
    for student, one in students.items():
        place = folder / student
        if one.kind == "hostile":
            build(fixtures[one.name], "hostile", place, marks_of(student))
            continue
        files = (variants | mutants)[one.name].files if one.kind != "solution" else solutions
        place.mkdir(parents=True)
        write_files({name: f"{text}\n# {student}\n" for name, text in files.items()}, place)
    return students


def marks_of(student):
    """Return what a hostile submission would leave behind: the same in every run, so that its file is the same."""
    word = f"fcos-hostile-{student}"
    return Marks(Path(f"/tmp/{word}"), word, f"/tmp/{word}-socket")


class Steps:
    """The steps of the benchmark, their seconds and peaks, in a file that survives being stopped."""

    def __init__(self, path):
        self._path = path
        self.done = json.loads(path.read_text()) if path.is_file() else {}

    def run(self, name, command, accept=(0,), **options):
        """Run a step's command, if it has not ended yet."""
        before = self.done.get(name, {"seconds": 0.0, "peaks": {}, "ended": False})
        if before["ended"]:
            return
        print(f"{name} ...", flush=True)

        def note(seconds, peaks, ended=False):
            self.done[name] = {"seconds": before["seconds"] + seconds, "peaks": peaks, "ended": ended}
            write_whole(self._path, json.dumps(self.done, indent=2) + "\n")

        seconds, peaks, code = run_watched(command, 1.0, before["peaks"], note, **options)
        note(seconds, peaks, code in accept)
        if code not in accept:
            raise SystemExit(f"{name}: ended with {code}: {' '.join(map(str, command))}")


def prepare(place, args):
    """Make the class, or read the one that is there; returns {student: Student}."""
    settings = {"students": args.students, "seed": args.seed, "tasks": args.task}
    path = place / "class.json"
    if path.is_file():
        found = json.loads(path.read_text())
        if found["settings"] != settings:
            raise SystemExit(f"{place}: holds a run with {found['settings']}; name another --place, or remove it")
        return {student: Student(**one) for student, one in found["class"].items()}
    shutil.rmtree(place / "class", ignore_errors=True)
    (place / "class").mkdir(parents=True)
    students = make_class(place / "class", args.students, random.Random(args.seed))
    written = {student: vars(one) for student, one in students.items()}
    path.write_text(json.dumps({"settings": settings, "class": written}, indent=2) + "\n")
    return students


def options_of(args):
    return [word for task in args.task for word in ("--task", task)]


def grade_whole_class(place, steps, args):
    """Grade, report, export."""
    out, grades = place / "graded", place / "grades.csv"
    command = [*KIT, "grade-class", place / "class", "--out", out, "--jobs", "2", "--resume", *options_of(args)]
    steps.run("grade", command, accept=(0, 1))  # 1: some have no results; the figures say how many
    pages = ["--submissions", place / "class", "--pages", out / "pages"]
    steps.run("report", [*KIT, "report", out, *pages])
    if not steps.done.get("export", {}).get("ended"):
        grades.unlink(missing_ok=True)
    steps.run("export", [*KIT, "gradebook", out, "--out", grades])


def compare_with_nbgrader(place, steps, args, students):
    """Grade the first honest ones on both sides; returns {course: number of students with the same points}."""
    few = [student for student, one in students.items() if one.ends_in_a_kernel][: args.nbgrader]
    for student in few:
        if not (place / "few" / student).exists():
            shutil.copytree(place / "class" / student, place / "few" / student)
    out = place / "few-graded"
    command = [*KIT, "grade-class", place / "few", "--out", out, "--jobs", "2", "--resume", *options_of(args)]
    steps.run("kit", command)
    ours = {student: one["total"] for student, one in read_results(out).items()}
    same = {}
    for name, whole in (("cells", False), ("notebook", True)):
        course, step = place / f"course-{name}", f"nbgrader, {name}"
        # nbgrader calls `alembic`, which lies beside Python; the graded cells find `in_kernel` and the kit by the path.
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}",
            "FCOS_DATA": str(place / "data"),  # the generated sample is drawn once, for all students
            "JUPYTER_PLATFORM_DIRS": "1",
        }
        options = {"cwd": course, "env": environment, "stderr": (place / f"{name}.log").open("a")}
        nbgrader = [sys.executable, "-m", "nbgrader"]
        if step not in steps.done:
            shutil.rmtree(course, ignore_errors=True)
            plain_nbgrader.make_course(course, args.task, whole)
            if run_watched([*nbgrader, "generate_assignment", "fcos"], **options)[2]:
                raise SystemExit(f"nbgrader generate_assignment failed; see {place / f'{name}.log'}")
            for student in few:
                plain_nbgrader.hand_in(course, student, place / "few" / student)
        steps.run(step, [*nbgrader, "autograde", "fcos"], **options)
        theirs = plain_nbgrader.points_in(course, few)
        same[name] = sum(theirs[student] == ours[student] for student in few)
    return len(few), same


def read_results(out):
    return {path.stem: json.loads(path.read_text()) for path in sorted((out / "results").glob("*.json"))}


def figures_of_class(place, steps, students):
    """Put the figures of the class together."""
    results = read_results(place / "graded")
    full = {student for student, one in results.items() if one["total"] == one["max_total"]}
    honest = [student for student, one in students.items() if one.kind in ("variant", "solution")]
    hostile = [student for student, one in students.items() if one.kind == "hostile"]
    seconds = {name: round(steps.done[name]["seconds"], 1) for name in ("grade", "report", "export")}
    peaks = {}
    for name in seconds:
        for kind, size in steps.done[name]["peaks"].items():
            peaks[kind] = max(peaks.get(kind, 0), size)
    return {
        "students": len(students),
        "not_graded": len(students) - len(results),
        "honest": len(honest),
        "honest_with_full_marks": len(full & set(honest)),
        "traces_on_the_machine": sum(marks_of(student).remove_trace() for student in hostile),
        "isolation": sorted({one["isolation"] for one in results.values()}),
        "seconds": seconds,
        "submissions_per_minute": round(60 * len(students) / seconds["grade"], 2),
        "peak_gib": {kind: round(size / 2**30, 2) for kind, size in sorted(peaks.items())},
    }


def figures_of_comparison(steps, count, same):
    """Put the figures of both sides together."""
    rates = {
        name: 60 * count / steps.done[name]["seconds"] for name in ("kit", "nbgrader, cells", "nbgrader, notebook")
    }
    return {
        "compared": count,
        "per_minute": {name: round(rate, 2) for name, rate in rates.items()},
        "ratios": {name: round(rates["kit"] / rates[f"nbgrader, {name}"], 2) for name in same},
        "same_points": same,
        "peak_gib_together": {name: round(steps.done[name]["peaks"]["together"] / 2**30, 2) for name in rates},
    }


def print_class(figures):
    seconds, peak = figures["seconds"], figures["peak_gib"]
    levels = ", ".join(figures["isolation"])
    print(f"{figures['students']} submissions, {figures['not_graded']} not graded, isolation: {levels}")
    print(f"honest ones with full marks: {figures['honest_with_full_marks']} of {figures['honest']}")
    print(f"graded in {seconds['grade']:.0f} s: {figures['submissions_per_minute']:.1f} submissions a minute")
    print(f"report and pages {seconds['report']:.1f} s, grades {seconds['export']:.1f} s")
    print(f"peak memory, all processes together: {peak['together']:.2f} GiB", end="")
    print(f" (a grader {peak.get('grader', 0):.2f}, a worker {peak.get('worker', 0):.2f})")


def print_comparison(figures):
    for name, rate in figures["per_minute"].items():
        print(f"{name:20} {rate:6.2f} submissions a minute, {figures['peak_gib_together'][name]:.2f} GiB")
    for name, ratio in figures["ratios"].items():
        same = f"same points for {figures['same_points'][name]} of {figures['compared']}"
        print(f"kit against nbgrader, {name}: {ratio:.2f} x (goal {GOAL_RATIO:g}), {same}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=SIZE)
    parser.add_argument("--nbgrader", type=int, default=20, metavar="N", help="submissions to compare with; 0 for none")
    parser.add_argument("--task", action="append", default=[], metavar="ID")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--place", type=Path, default=ROOT / "build" / "class-of-300", metavar="DIR")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the step's command ends as well
    try:
        measure(args)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")


def measure(args):
    place = args.place.resolve()
    students, steps = prepare(place, args), Steps(place / "steps.json")
    grade_whole_class(place, steps, args)
    figures = figures_of_class(place, steps, students)
    print_class(figures)
    if args.nbgrader:
        figures |= figures_of_comparison(steps, *compare_with_nbgrader(place, steps, args, students))
        print_comparison(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
