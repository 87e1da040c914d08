"""Loads a submission, with every function that belongs to another task answered from outside.

A task's own mistakes must cost that task alone. So before a task is probed, the functions and classes of all other
tasks are replaced: functions by stubs that ask the trusted side, classes by the small fakes of `fakes`. The replacement
is made inside the function and class objects, so that it also holds for references that the submission took while it
was imported.
"""

import contextlib
import importlib.util
import sys
import traceback
import types
from pathlib import Path

from .limits import TooSlow

MODULES = ("common", "one_stage_detector")
# Parameters of the functions that are answered from outside; a call with others is one of the submission's own.
PARAMETERS = {
    "get_fpn_location_coords": ("shape_per_fpn_level", "strides_per_fpn_level", "dtype", "device"),
    "nms": ("boxes", "scores", "iou_threshold"),
    "class_spec_nms": ("boxes", "scores", "class_ids", "iou_threshold"),
    "fcos_match_locations_to_gt": ("locations_per_fpn_level", "strides_per_fpn_level", "gt_boxes"),
    "fcos_get_deltas_from_locations": ("locations", "gt_boxes", "stride"),
    "fcos_apply_deltas_to_locations": ("deltas", "locations", "stride"),
    "fcos_make_centerness_targets": ("deltas",),
}


class SubmissionError(Exception):
    """What is wrong with a submission, in words for its author. `where` is "file:line" or None."""

    def __init__(self, message: str, where: str | None = None):
        super().__init__(message)
        self.where = where


class ImportTooSlow(SubmissionError):
    """A file that works instead of defining: it was still busy when its time for being imported was over."""


class Submission:
    """The two modules of a submission. A name is looked up in `one_stage_detector`, then in `common`."""

    def __init__(self, modules: dict, folder: str):
        self.modules = modules
        self.folder = folder

    def __getattr__(self, name):
        for module in reversed(self.modules.values()):
            if name in vars(module):
                return vars(module)[name]
        files = " and ".join(f"{module}.py" for module in self.modules)
        raise SubmissionError(f"{name} is not defined in {files}")


def load_submission(
    folder: str, needed: list[str], replaced: list[str], ask, fakes: dict, importing=contextlib.nullcontext
) -> Submission:
    """Import a submission's modules.

    Args:
        folder: where the files lie.
        needed: the modules that the task lives in; another module that cannot be imported is replaced as a whole.
        replaced: symbols ("common.nms") that are answered from outside.
        ask: function (symbol, args, kwargs) -> answer.
        fakes: {symbol: class} for the symbols that are classes.
        importing: makes the context in which each file is imported; it may raise `TooSlow`.

    Returns:
        The modules, with the replacements made.

    Raises:
        SubmissionError: a needed module is missing or fails while it is imported.
    """
    sys.path.append(folder)  # last: a file of the submission never hides an installed package
    modules = {}
    for name in MODULES if "one_stage_detector" in needed else ("common",):
        try:
            modules[name] = _execute(name, folder, importing)
        except SubmissionError:
            if name in needed:
                raise
            modules[name] = sys.modules[name] = types.ModuleType(name)
        for symbol in replaced:
            module, _, attribute = symbol.partition(".")
            if module == name:
                _replace(modules[name], attribute, symbol, ask, fakes.get(symbol))
    return Submission(modules, folder)


def _execute(name: str, folder: str, importing) -> types.ModuleType:
    path = Path(folder) / f"{name}.py"
    if not path.is_file():
        raise SubmissionError(f"{name}.py is missing")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importing():
            spec.loader.exec_module(module)
    except (
        BaseException
    ) as error:  # SystemExit and KeyboardInterrupt too: a file that ends the program cannot be graded
        sys.modules.pop(name, None)
        where = where_in_submission(error, folder)
        if isinstance(error, TooSlow):
            reason = "it takes too long; work belongs inside functions, not at the top of the file"
            raise ImportTooSlow(f"{name}.py cannot be imported: {reason}", where) from error
        raise SubmissionError(f"{name}.py cannot be imported: {describe(error)}", where) from error
    return module


def describe(error: BaseException) -> str:
    """Return the error in one line: its type and message."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    message = str(error).strip()
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def where_in_submission(error: BaseException, folder: str) -> str | None:
    """Return "file:line" of the deepest place inside the submission that the error passed through."""
    if isinstance(error, SubmissionError):
        return error.where
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno or 1}"
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent == Path(folder)
    ]
    return places[-1] if places else None


def _replace(module: types.ModuleType, attribute: str, symbol: str, ask, fake: type | None) -> None:
    """Answer one symbol from outside, whatever the submission put there."""
    current = vars(module).get(attribute)
    if fake is not None:
        if isinstance(current, type):
            try:
                fake.install(current)
                return
            except (TypeError, AttributeError):
                pass  # a class that cannot be changed in place is replaced in the module below
        setattr(module, attribute, fake)
        return

    known = PARAMETERS.get(attribute)

    def answer(own, args, kwargs):
        # A parameter that only this submission's function has: nobody else can answer such a call.
        if known and callable(own) and (len(args) > len(known) or not set(kwargs) <= set(known)):
            return own(*args, **kwargs)
        return ask(symbol, args, kwargs)

    if isinstance(current, types.FunctionType):
        own = types.FunctionType(
            current.__code__, current.__globals__, attribute, current.__defaults__, current.__closure__
        )
        own.__kwdefaults__ = current.__kwdefaults__

        # References taken at import (`from common import nms`, a default argument, a table of functions) hold the
        # function object, so its code is what has to change.
        def forward(*args, **kwargs):
            return ANSWER(OWN, args, kwargs)  # noqa: F821 - the two names are put in below

        put_in = {"ANSWER": f"__kit_answer_{attribute}__", "OWN": f"__kit_own_{attribute}__"}
        names = tuple(put_in[name] for name in forward.__code__.co_names)
        current.__globals__[put_in["ANSWER"]] = answer
        current.__globals__[put_in["OWN"]] = own
        # A closure's code has to name as many free variables as it holds, used or not (0x40: it would hold none).
        free = current.__code__.co_freevars
        flags = forward.__code__.co_flags & ~0x40 if free else forward.__code__.co_flags
        current.__code__ = forward.__code__.replace(co_names=names, co_freevars=free, co_flags=flags)
        current.__defaults__ = None
        current.__kwdefaults__ = None
        return
    setattr(module, attribute, lambda *args, **kwargs: answer(current, args, kwargs))
