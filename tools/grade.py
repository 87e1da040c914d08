"""`kit grade`: grade one submission and print, store or draw the result."""

import json
from pathlib import Path

from autograder.errors import KitError
from autograder.grade import grade
from autograder.isolation import LEVELS
from autograder.tasks import load_tasks
from tools.held_out import add_arguments, held_out_images


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument(
        "path",
        type=Path,
        nargs="+",
        help="folder, zip or tar.gz with common.py and one_stage_detector.py, or .py files",
    )
    parser.add_argument("--task", action="append", metavar="ID", help="grade this task only; may be given again")
    parser.add_argument("--public-only", action="store_true", help="leave out hidden tests, as students see it")
    parser.add_argument("--isolation", choices=LEVELS, help="level that has to be had; by default the best there is")
    add_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the results as a page")


def run(args) -> int:
    """Grade, print the table, write the files."""
    from rich.console import Console

    table = load_tasks()
    for task_id in args.task or ():
        table[task_id]  # an unknown id is refused before any work is done
    for path in filter(None, (args.json, args.html)):
        if not path.parent.is_dir():
            raise KitError(f"{path}: the folder {path.parent} does not exist")
    held_out = held_out_images(args)
    console = Console(highlight=False)
    with console.status(f"grading {args.path[0].name} …"):
        tasks = set(args.task) if args.task else None
        results = grade(args.path, table, tasks, args.public_only, isolation=args.isolation, held_out=held_out)
    from autograder.report import print_results, results_page

    print_results(results, console)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if args.html:
        args.html.write_text(results_page(results, title=args.path[0].name), encoding="utf-8")
    return 0
