"""The import arrows of the architecture, read from the source without running it."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"autograder", "helpers", "tools", "tests", "solutions", "common", "one_stage_detector", "a4_helper", "eecs598"}

# package -> which of our own modules it may import; a longer prefix wins.
ALLOWED = {
    "solutions/common.py": set(),
    "solutions/one_stage_detector.py": {"common"},
    "solutions/notebooks": {"helpers", "autograder.check", "common", "one_stage_detector"},
    "helpers": {"helpers"},
    "helpers/legacy/eecs598": {"helpers", "eecs598"},
    # A trained detector is scored on images that are read as students read theirs: one reader of VOC, not two.
    "autograder": {"autograder", "helpers.evaluation", "helpers.annotations", "helpers.cache"},
    "autograder/worker": {"autograder.worker"},
    "tools": {"autograder", "helpers", "tools"},
}
WORKER_LIBRARIES = {"torch", "torchvision"}


def sources(folder):
    path = ROOT / folder
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def imported(path):
    """(line, full dotted name) of everything that a file imports; relative imports made absolute."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_allowed(name, allowed):
    return any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)


def rule_for(path):
    """The rule of the longest matching folder."""
    name = path.relative_to(ROOT).as_posix()
    matching = [folder for folder in ALLOWED if name == folder or name.startswith(folder + "/")]
    return ALLOWED[max(matching, key=len)]


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_follow_the_arrows(folder):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(folder)
        for line, name in imported(path)
        if name.partition(".")[0] in OURS and not is_allowed(name, rule_for(path))
    ]
    assert not wrong, "\n".join(wrong)


def test_worker_imports_only_the_standard_library_and_torch():
    wrong = [
        f"{path.name}:{line} imports {name}"
        for path in sources("autograder/worker")
        for line, name in imported(path)
        if name.partition(".")[0] not in sys.stdlib_module_names | WORKER_LIBRARIES | {"autograder"}
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_oracle_reads_the_solutions():
    """Elsewhere in `autograder` the word appears only in the path of the table of tasks."""
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in sources("autograder")
        if any(
            isinstance(node, ast.Constant) and node.value == "solutions"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    assert readers == {"autograder/oracle/__init__.py", "autograder/tasks.py"}


@pytest.mark.parametrize("folder", ["solutions", "helpers", "autograder", "tools", "benchmarks", "tests/kit"])
def test_no_star_imports(folder):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(folder)
        for line, name in imported(path)
        if name.endswith(".*")
    ]
    assert not wrong, "\n".join(wrong)


def test_arrow_check_sees_a_forbidden_import(tmp_path, monkeypatch):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "bad.py").write_text("def f():\n    from autograder.grade import grade\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"helpers/bad.py:2 imports autograder.grade.grade"):
        test_imports_follow_the_arrows("helpers")
