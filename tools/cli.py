"""`kit`: finds the command, runs it, and turns a `KitError` into one line and exit code 2."""

import argparse
import importlib
import sys

from autograder.errors import KitError

# command -> (module, one line of help). A command's module is imported only when it runs, so that `kit --help` is
# instant.
COMMANDS = {
    "build": ("tools.build", "write assignment/ and notebooks/ from solutions/"),
    "reference": ("tools.reference", "regenerate the reference tensors of the graded tests"),
    "verify": ("tools.verify", "measure the grader with mutants and honest variants"),
    "grade": ("tools.grade", "grade one submission (a folder or a zip)"),
    "grade-class": ("tools.grade_class", "grade every submission of a folder, and go on where it was stopped"),
    "report": ("tools.report", "show a graded class on one page"),
    "gradebook": ("tools.gradebook", "turn results into grades: late penalty, overrides, Canvas, Moodle"),
    "diff": ("tools.diff", "show whose grade changed between two gradings of a class, and why"),
    "doctor": ("tools.doctor", "look whether everything is here that the kit needs, and say what to do if not"),
    "data": ("tools.data", "make the sample data set or fetch VOC2007"),
    "train": ("tools.train", "train a detector as a configuration describes it, and evaluate it"),
    "evaluate": ("tools.evaluate", "measure a trained detector: VOC and COCO figures, kinds of mistakes, pictures"),
    "release": ("tools.release", "build what students receive"),
    "gradescope": ("tools.gradescope", "build the autograder zip for Gradescope"),
    "nbgrader": ("tools.nbgrader", "make an nbgrader course whose graded cells the kit grades"),
    "demo": ("tools.demo", "grade a small class, train a detector, and show both on one page"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program name; `None` reads the command line.

    Returns:
        The exit code: 0 when the command did its work, 2 for bad input, else what the command says.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="kit", description="Staff tools of the FCOS course kit.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module_name, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if argv and argv[0] == name:
            module = importlib.import_module(module_name)
            module.configure(command)
            command.set_defaults(run=module.run)
    args, more = parser.parse_known_args(argv)
    if more and hasattr(args, "overrides") and not any(word.startswith("-") for word in more):
        args.overrides += more  # argparse itself gives up on those that come after an option
    elif more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return args.run(args) or 0
    except KitError as error:
        print(f"kit {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"kit {args.command}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
