"""`kit build`: solutions become skeletons, deterministically, and wrong markers are named."""

import ast
import importlib.util
import inspect

import pytest

from autograder.errors import KitError
from autograder.tasks import FILES, ROOT, load_tasks
from tools.build import generated_files
from tools.strip import strip_solutions

SOURCE = '''import math


def f(x):
    """Double x."""
    y = x
    # BEGIN SOLUTION 1.2
    #: Return twice `y`.
    y = y * 2
    return y
    # END SOLUTION 1.2
'''
GOLDEN = '''import math


def f(x):
    """Double x."""
    y = x
    # TODO 1.2: Return twice `y`.
    raise NotImplementedError("Task 1.2: Location coordinates")
'''
WRONG_MARKERS = [
    ("# BEGIN SOLUTION 1.2\n#: a\nx\n", r"f.py:1: BEGIN SOLUTION 1.2 is never closed"),
    ("x\n# END SOLUTION 1.2\n", r"f.py:2: END SOLUTION 1.2 without a BEGIN"),
    ("# BEGIN SOLUTION 1.2\n# BEGIN SOLUTION 1.1\n", r"f.py:2: BEGIN inside the block of task 1.2 that line 1 opened"),
    ("# BEGIN SOLUTION 1.2\n# END SOLUTION 1.1\n", r"f.py:2: END SOLUTION 1.1 closes the block of task 1.2"),
    ("# BEGIN SOLUTION 9.9\n# END SOLUTION 9.9\n", r"f.py:1: the marker names an unknown task '9.9'"),
    ("# BEGIN SOLUTION\n# END SOLUTION\n", r"f.py:1: the marker names an unknown task ''"),
    ("x = 1  # begin solution 1.2\n", r"f.py:1: write the marker as"),
    ("### BEGIN SOLUTION 1.2\n", r"f.py:1: write the marker as"),
    ("# BEGIN SOLUTION 1.2\nx\n# END SOLUTION 1.2\n", r"f.py:1: the block of task 1.2 has no '#:' line"),
]


def test_strip_replaces_the_block_by_a_stub():
    assert strip_solutions(SOURCE, "f.py", load_tasks()) == GOLDEN


@pytest.mark.parametrize(("text", "message"), WRONG_MARKERS)
def test_strip_names_file_and_line_of_a_wrong_marker(text, message):
    with pytest.raises(KitError, match=message):
        strip_solutions(text, "f.py", load_tasks())


def test_strip_keeps_the_block_of_a_given_task(tmp_path):
    table = (ROOT / "solutions" / "tasks.toml").read_text()
    given = tmp_path / "tasks.toml"
    given.write_text(table.replace('id = "1.2"\n', 'id = "1.2"\ngiven = true\n'))
    stripped = strip_solutions(SOURCE, "f.py", load_tasks(given))
    assert "y = y * 2" in stripped
    assert "SOLUTION" not in stripped
    assert "#:" not in stripped


def test_build_is_deterministic_and_committed():
    table = load_tasks()
    files = generated_files(table)
    assert files == generated_files(table)
    differing = [str(path) for path, text in files.items() if path.read_bytes() != text.encode()]
    assert not differing, "run: kit build"


def definitions(path):
    """{qualified name: (arguments, docstring)} of every function, method and class of a file."""
    found = {}

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = f"{prefix}{child.name}"
                arguments = ast.dump(child.args) if isinstance(child, ast.FunctionDef) else ast.dump(child.bases[0])
                found[name] = (arguments, ast.get_docstring(child))
                visit(child, name + ".")

    visit(ast.parse(path.read_text()), "")
    return found


@pytest.mark.parametrize("name", FILES)
def test_skeleton_and_solution_have_equal_signatures_and_docstrings(name):
    solution = definitions(ROOT / "solutions" / name)
    assert definitions(ROOT / "assignment" / name) == solution
    assert len(solution) >= 6


@pytest.mark.parametrize("name", FILES)
def test_skeleton_names_every_task_of_its_file_and_holds_no_marker(name):
    text = (ROOT / "assignment" / name).read_text()
    expected = {task.id for task in load_tasks().graded if task.file == name and task.symbols}
    for task_id in expected:
        assert f"# TODO {task_id}: " in text
        assert f'raise NotImplementedError("Task {task_id}: ' in text
    assert "SOLUTION" not in text


@pytest.mark.parametrize("name", FILES)
def test_every_public_name_of_the_solutions_has_a_docstring_with_shapes(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "solutions"))
    spec = importlib.util.spec_from_file_location(f"solution_{name[:-3]}", ROOT / "solutions" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for public, value in vars(module).items():
        if public.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        documentation = inspect.getdoc(value) or ""
        assert documentation, f"{public} has no docstring"
        if inspect.isfunction(value) and not public.startswith("hello") and public != "load_backbone":
            assert "(N" in documentation or "(H*W" in documentation or "(L" in documentation, public
        for method_name, method in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(method) and not method_name.startswith("_"):
                assert "(B" in (inspect.getdoc(method) or "") or "(1" in inspect.getdoc(method), method_name
