"""`kit diff`: whose grade changed when a class was graded again, and why."""

import json
from dataclasses import asdict
from pathlib import Path

from autograder.batch import write_whole
from autograder.desk.results import load_class
from autograder.errors import KitError
from autograder.gradebook.changes import compare_classes, what_changed
from autograder.report import one_line


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("old", type=Path, help="folder that kit grade-class wrote before")
    parser.add_argument("new", type=Path, help="folder that it wrote now")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the changes as JSON")


def run(args) -> int:
    """Print the changes; 0 when there are none, 1 when there are some."""
    if args.json and not args.json.parent.is_dir():
        raise KitError(f"{args.json}: the folder {args.json.parent} does not exist")
    if args.json and args.json.exists():
        raise KitError(f"{args.json}: exists; move it away, or name another file with --json")
    old, new = load_class(args.old), load_class(args.new)
    for results in (old, new):
        if results.incomplete:
            print(one_line(f"warning: {results.folder} is not the whole class: {results.incomplete}"))
    changes, circumstances = compare_classes(old, new), what_changed(old, new)
    for line in circumstances:
        print(one_line(f"everybody: {line}"))
    for change in changes:
        print(one_line(f"{change.student}: {_figure(change.old)} -> {_figure(change.new)}"))
        for reason in change.reasons:
            print(one_line(f"  {reason}"))
    print(f"{len(changes)} of {len({one['id'] for one in [*old.students, *new.students]})} students changed")
    if args.json:
        content = {"everybody": circumstances, "changes": [asdict(change) for change in changes]}
        write_whole(args.json, json.dumps(content, indent=2) + "\n")
    return 1 if changes else 0


def _figure(total: float | None) -> str:
    return "none" if total is None else f"{total:g}"
