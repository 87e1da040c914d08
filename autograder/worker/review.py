"""Reads a submission's source for what a person should look at. A flag is no verdict: it changes no points.

The files are parsed and never run, in a process of their own: a parser can be made to crash as well.
"""

import ast
import re
from pathlib import Path

# What a task asks students to write themselves, where a library has it ready.
_READY_MADE = {"nms", "batched_nms", "NMSBoxes", "fcos_resnet50_fpn", "FCOSHead", "FeaturePyramidNetwork"}
_READY_MODULES = ("torchvision.models.detection", "torchvision.ops.feature_pyramid_network", "mmdet", "detectron2")
_LOOKED_UP = ("torchvision::nms", "torchvision.ops", "batched_nms")  # as text: getattr(ops, "batched_nms")
# fmt: off
# What no solution of this assignment needs, and attempts to reach the grader do.
_REACHING = {
    "ctypes", "inspect", "importlib", "socket", "subprocess", "multiprocessing", "signal", "resource", "pickle",
    "linecache", "faulthandler", "atexit", "mmap", "cffi", "_thread", "builtins", "unittest", "pytest", "autograder",
}
_CALLS = {"eval", "exec", "compile", "__import__", "globals", "breakpoint", "__builtins__"}
_ATTRIBUTES = {
    "_getframe", "__globals__", "__code__", "__closure__", "__subclasses__", "f_back", "f_locals", "tb_frame", "_exit",
    "_C", "get_objects", "get_referrers", "get_referents", "fork", "system", "popen", "meta_path", "settrace",
    "setprofile",
}
# fmt: on
_TESTING = {"unittest", "pytest"}  # in a student's own tests they are what they should be
# A notebook that was saved as a script, and that nothing imports, is no part of what is graded.
_CELL = re.compile(rb"^# (In\[|%%)", re.MULTILINE)
_LIMIT = 50


def review(folder: str) -> list:
    """Return what stands out in the Python files of a submission.

    Args:
        folder: where they lie.

    Returns:
        [[file, line, kind, name], ...] in reading order, at most fifty; kind is "ready-made" (a library does the task)
        or "reaching" (nothing that a detector needs).
    """
    found = []
    # What the submission brings along is its own work, whatever its name.
    modules = {path.stem for path in Path(folder).iterdir()}
    trees = {path: tree for path in sorted(Path(folder).rglob("*.py")) if (tree := _tree(path)) is not None}
    imported = {name for tree in trees.values() for node in ast.walk(tree) for name in _imported(node)}
    for path, tree in trees.items():
        own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))} | modules
        place = path.relative_to(folder)
        is_script = place.stem not in imported | {"common", "one_stage_detector"} and _CELL.search(path.read_bytes())
        is_test = place.stem.startswith("test_") or place.stem.endswith("_test") or "tests" in place.parts
        for node in ast.walk(tree):
            for kind, name in _remarkable(node, own):
                library = name.partition(".")[0]
                if is_script and (kind == "ready-made" or library == "autograder"):  # it checks, and compares
                    continue
                if is_test and library in _TESTING:
                    continue
                found.append([place.as_posix()[-100:], getattr(node, "lineno", 1), kind, name[:100]])
    unique = sorted({tuple(flag) for flag in found})
    return [list(flag) for flag in unique[:_LIMIT]]


def _tree(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # a file that Python cannot read is not run either


def _imported(node: ast.AST):
    """Yield every part of every name that an import names."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for name in (getattr(node, "module", None), *(alias.name for alias in node.names)):
            yield from (name or "").split(".")


def _remarkable(node: ast.AST, own: set[str]):
    """Yield (kind, name) for one node of the tree."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.partition(".")[0] not in own:
                yield from _module(alias.name)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if node.level or module.partition(".")[0] in own:
            return
        yield from _module(module)
        for alias in node.names:
            yield from _module(f"{module}.{alias.name}")
            if alias.name in _READY_MADE:
                yield "ready-made", f"{module}.{alias.name}"
            elif _reaches(alias.name, module):
                yield "reaching", f"{module}.{alias.name}"
    elif isinstance(node, ast.Attribute):
        if node.attr in _READY_MADE and _root(node) not in own | {"self", "cls"}:
            yield "ready-made", ast.unparse(node)[-100:]
        elif _reaches(node.attr, _root(node)):
            yield "reaching", node.attr
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in own:
        if node.id in _CALLS:
            yield "reaching", node.id
    elif isinstance(node, ast.Constant) and node.value in _LOOKED_UP:
        yield "ready-made", node.value


def _reaches(attribute: str, owner: str) -> bool:
    return attribute in _ATTRIBUTES and (owner, attribute) != ("platform", "system")  # which asks for Windows or Linux


def _root(node: ast.AST) -> str:
    """Return the name that a chain of attributes begins with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _module(name: str):
    if name.startswith(_READY_MODULES):
        yield "ready-made", name
    elif name.partition(".")[0] in _REACHING:
        yield "reaching", name
