"""The gate of the release, by planting: each kind of leak in each place must be found, and nothing else."""

import base64
import bz2
import gzip
import json
import lzma
import random
import re
import textwrap
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pytest

from autograder.tasks import FILES, ROOT, load_tasks
from tools.confidential import (
    SOLUTION_RUN,
    STAFF_RUN,
    header_text,
    model_answers,
    read_secrets,
    solution_blocks,
    strings,
    tokens,
)
from tools.leaks import check_zip, find_leaks
from tools.release import handed_out, student_files, write_zip

TABLE = load_tasks()
HIDDEN = ROOT / "autograder" / "graded" / "hidden"
REFERENCES = ROOT / "autograder" / "reference" / "hidden"
LINE = "return (horizontal * vertical).clamp(min=0).sqrt().masked_fill(background, -1.0)  # (N,)"
# One line of the solution of 2.4 as somebody could leave it behind.
FORMS = {
    "as it is": LINE,
    "indented": textwrap.indent(LINE, "            "),
    "another comment": LINE.replace("# (N,)", "# the root of both"),
    "spaces": LINE.replace("(", "( ").replace(".", " . "),
    "broken up": LINE.replace(".clamp(", "\n    .clamp(\n    ").replace(".sqrt", "  # why\n    .sqrt"),
    "comma added": LINE.replace("-1.0)", "-1.0,\n)"),
    "commented out": f"x = 1\n    # {LINE}\n",
    "commented out and broken up": "# " + LINE.replace(".clamp(", "\n#   .clamp(  # not below 0\n#   "),
    "a docstring": f'def f():\n    """Not\n    {LINE}\n    """\n',
    "a string": f"CODE = {LINE!r}",
    "a string with escapes": "CODE = 'x = 1\\n" + LINE.replace(".clamp", "\\n\\t.clamp") + "'",
    "pieces of a string": f"CODE = ({LINE[:30]!r}\n    {LINE[30:]!r})",
    "a Markdown fence": f"Do this:\n```python\n{LINE}\n```\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def secrets():
    return read_secrets(TABLE)


@pytest.fixture(scope="module")
def files():
    return student_files()


def leaks(name, content, secrets):
    return set(find_leaks(name, content if isinstance(content, bytes) else content.encode(), secrets))


def notebook(**places):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": ["x = 1\n", "y = 2"]}
    return json.dumps({"cells": [{**cell, **places}], "metadata": {"kernelspec": {}}, "nbformat": 4})


def test_release_has_no_leak(tmp_path, files, secrets):
    write_zip(tmp_path / "a.zip", files, "a")
    assert check_zip(tmp_path / "a.zip", {f"a/{name}" for name in handed_out()}, secrets) == []


@pytest.mark.parametrize("form", FORMS)
def test_line_of_a_solution_is_found_in_every_form(form, secrets):
    found = leaks("helpers/more.py", f"import torch\n\n{FORMS[form]}\n", secrets)
    assert found == {"solution of task 2.4", "solution of task 2.4 under other names"}


@pytest.mark.parametrize("task", [task.id for task in TABLE.graded if task.symbols])
def test_every_telling_line_of_every_solution_is_found(task, secrets):
    """Alone, without the rest of its block: so does somebody copy who does not think of it."""
    skeleton = " ".join(word for name in FILES for word in tokens((ROOT / "assignment" / name).read_text()))
    checked = 0
    for line in "\n".join(code for one, code in solution_blocks(TABLE) if one == task).splitlines():
        words = tokens(line.partition("#")[0].strip().rstrip(","))
        if len(words) >= SOLUTION_RUN and " ".join(words) not in skeleton:
            checked += 1
            found = leaks("a.py", f"import torch\n{line.strip()}\n", secrets)
            assert any(what.startswith("solution of task") for what in found), line
    assert checked > 0


@pytest.mark.parametrize("task", [task.id for task in TABLE.graded if task.symbols])
def test_solution_under_other_names_is_found(task, secrets):
    code = textwrap.dedent("\n".join(textwrap.dedent(code) for one, code in solution_blocks(TABLE) if one == task))
    names = set(re.findall(r"^ *(\w+)(?:, \w+)* = |for (\w+) in|, (\w+) = ", code, re.MULTILINE))
    for name in {name for group in names for name in group if name}:
        code = re.sub(rf"(?<![.\w]){name}\b", f"my_{name}", code)
    assert f"solution of task {task} under other names" in leaks("helpers/mine.py", code, secrets)


def test_model_answer_is_found(secrets):
    answers = model_answers()
    assert len(answers) > 4
    for name, text in answers:
        assert f"model answer {name}" in leaks("a.ipynb", notebook(cell_type="markdown", source=[text]), secrets)


NOTEBOOKS = {
    "source": {"source": [LINE[:30], LINE[30:]]},
    "output": {"outputs": [{"output_type": "stream", "name": "stdout", "text": [f"{LINE}\n"]}]},
    "metadata": {"metadata": {"note": {"deep": [1, LINE]}}},
    "attachment": {"attachments": {"a.txt": {"text/plain": LINE}}},
    "key": {"metadata": {LINE: True}},
}


@pytest.mark.parametrize("place", NOTEBOOKS)
def test_line_of_a_solution_is_found_in_a_notebook(place, secrets):
    assert leaks("a.ipynb", notebook(), secrets) == set()
    assert "solution of task 2.4" in leaks("a.ipynb", notebook(**NOTEBOOKS[place]), secrets)


def test_output_of_a_notebook_is_a_leak_whatever_it_says(secrets):
    found = leaks("a.ipynb", notebook(outputs=[{"output_type": "stream", "text": "1"}]), secrets)
    assert found == {"a cell with an output or an attachment"}


def test_archive_is_opened(secrets):
    inner, outer = BytesIO(), BytesIO()
    for buffer, name, content in ((inner, "b.py", LINE), (outer, "c.zip", inner)):
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, content if isinstance(content, str) else content.getvalue())
    found = leaks("data/manifest.json", outer.getvalue(), secrets)
    assert "c.zip: b.py: solution of task 2.4" in found
    assert "an archive in the archive" in found


@pytest.mark.parametrize("path", sorted(HIDDEN.glob("test_*.py")), ids=lambda path: path.stem)
def test_hidden_test_is_found(path, secrets):
    text = path.read_text()
    name, body = text.split("def test_")[1].split("(", 1)
    assert f"hidden test test_{name}" in leaks("a.md", f"see test_{name} for that", secrets)
    found = leaks("autograder/graded/public/test_more.py", f"def test_mine({body}", secrets)
    assert any(what.startswith("hidden test") for what in found) or len(tokens(body)) < STAFF_RUN


@pytest.mark.parametrize(
    "patch", ["mutants/2.2.toml", "mutants/4.1.toml", "variants/nms.toml", "variants/losses.toml"]
)  # fmt: skip
def test_mutant_and_variant_are_found(patch, secrets):
    text = (ROOT / "tests" / patch).read_text()
    code = max(text.split("'''")[1::2], key=len)
    kind = patch[:6].rstrip("s")
    assert any(what.startswith(kind) or "solution" in what for what in leaks("a.py", code, secrets))


def test_hidden_tensor_is_found_in_other_clothes(secrets):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = ROOT / "autograder" / "reference" / "hidden" / "detections_none.safetensors"
    tensors = safetensors.load(path.read_bytes())
    values = max((tensor for tensor in tensors.values() if tensor.dtype == np.float32), key=lambda t: len(np.unique(t)))
    what = "hidden tensor of detections_none"
    assert leaks("a.safetensors", path.read_bytes(), secrets) >= {what}
    for clothes in (values, values.astype(np.float64), values.reshape(-1)):
        assert leaks("a.safetensors", safetensors.save({"mine": clothes}), secrets) == {what}
    assert what in leaks("a.bin", b"some bytes" + values.tobytes(), secrets)
    printed = ", ".join(f"{value:.6f}" for value in values.reshape(-1)[:400])
    assert leaks("a.md", f"x = tensor([{printed}])", secrets) == {what}
    other = safetensors.save({"mine": values + np.float32(0.01)}, metadata={"note": LINE})
    assert "solution of task 2.4" in leaks("a.safetensors", other, secrets)
    assert what not in leaks("a.safetensors", other, secrets)


@pytest.mark.parametrize("path", sorted(REFERENCES.glob("*.safetensors")), ids=lambda path: path.stem)
def test_hidden_reference_is_found_under_another_name(path, secrets):
    """Whole, and its head alone: small cases say there all that they hold."""
    copied = leaks("autograder/reference/public/more.safetensors", path.read_bytes(), secrets)
    assert f"hidden reference {path.name}" in copied
    for name in ("more.json", "more.md"):
        said = leaks(name, header_text(path.read_bytes()), secrets)
        assert any(what.startswith("hidden reference") for what in said)  # several of a kind may begin alike


def test_number_in_the_head_of_a_hidden_reference_is_found(secrets):
    said = header_text((REFERENCES / "overfit.safetensors").read_bytes())
    number = json.loads(said)["expected"]["first_gradients"]["backbone"]
    assert len(repr(number)) > 12
    found = leaks("helpers/more.py", f"NORM = {number!r}", secrets)
    assert found <= {"hidden tensor of overfit", "hidden tensor of overfit_untrained"}
    assert len(found) == 1


ORACLE = ROOT / "autograder" / "oracle"
LONG = [path for path in sorted(ORACLE.rglob("*.py")) if len(tokens(path.read_text())) > 2 * STAFF_RUN]


@pytest.mark.parametrize("path", LONG, ids=lambda path: path.relative_to(ORACLE).as_posix())
def test_oracle_is_found_under_another_name(path, secrets):
    assert f"oracle module {path.name}" in leaks("helpers/more.py", path.read_text(), secrets)
    *_, last = re.split(r"^(?=def |class )", path.read_text(), flags=re.MULTILINE)
    assert f"oracle module {path.name}" in leaks("helpers/more.py", f"import torch\n\n\n{last}", secrets)


@pytest.mark.parametrize("name", ["results.json", "report.html", "a.md"])
def test_result_and_report_are_found(name, secrets):
    content = {
        "results.json": json.dumps({"id": "somebody", "total": 3, "tasks_sha256": "0123456789abcdef" * 4}),
        "report.html": "<!DOCTYPE html>\n<html><title>Class report</title></html>",
        "a.md": 'somebody got: {"submission_sha256": "0123456789abcdef0123456789abcdef"}',
    }[name]
    assert leaks(name, content, secrets) & {
        "a result or a report of somebody's grading",
        "a kind of file that cannot be looked into",
    }


def test_zip_holds_what_is_listed_and_nothing_beside_it(tmp_path, secrets):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/listed.py", "x = 1")
        archive.writestr("a/other.py", "x = 1")
        entry = zipfile.ZipInfo("a/commented.py")
        entry.comment = b"hello"
        archive.writestr(entry, "x = 1")
        archive.comment = b"hello"
    assert check_zip(tmp_path / "a.zip", {"a/listed.py", "a/commented.py"}, secrets) == [
        "the zip itself: a comment",
        "a/other.py: is not on the list of what students receive, tools/handed_out.txt",
        "a/commented.py: a comment or other data beside the file",
    ]


def test_broken_file_is_no_free_pass(secrets):
    assert leaks("a.ipynb", "{", secrets) == {"cannot be read"}
    assert leaks("a.py", b"\xff\xfe", secrets) == {"cannot be read"}
    assert leaks("a.pt", b"abc", secrets) == {"a kind of file that cannot be looked into"}


def pieces(text, size):
    return [text[first : first + size] for first in range(0, len(text), size)]


def lines_of(text, size=52):
    return "\n".join(pieces(text, size))


def literals(text, size=52):
    return "\n    ".join(repr(piece) for piece in pieces(text, size))


def in_base64(data, size=52):
    return literals(base64.b64encode(data).decode(), size)


# The solution of 2.4, as bytes, in a Python file or in a text.
PACKED = {
    "base64": lambda code: f"x = {base64.b64encode(code).decode()!r}",
    "base64 in literals": lambda code: f"x = ({in_base64(code)})",
    "base64 in short literals": lambda code: f"x = ({in_base64(code, 7)})",
    "base64 in a list of bytes": lambda code: "x = [b" + ", b".join(in_base64(code, 20).split()) + "]",
    "base64 added up": lambda code: "x = " + " + ".join(in_base64(code, 20).split()),
    "base64 for addresses": lambda code: f"x = ({literals(base64.urlsafe_b64encode(code).decode())})",
    "base64 lines in Markdown": lambda code: f"```\n{lines_of(base64.b64encode(code).decode())}\n```",
    "base64 of zlib": lambda code: f"x = ({in_base64(zlib.compress(code))})",
    "base64 of gzip behind other bytes": lambda code: f"x = ({in_base64(b'head' + gzip.compress(code))})",
    "hex of bzip2": lambda code: f"x = {bz2.compress(code).hex()!r}",
    "hex of xz": lambda code: f"x = {lzma.compress(code).hex()!r}",
    "hex": lambda code: f"x = {code.hex()!r}",
    "hex in literals": lambda code: f"x = ({literals(code.hex().upper(), 30)})",
    "integers": lambda code: f"x = bytes({list(code)})",
    "integers, a line each": lambda code: "[\n" + ",\n".join(map(str, code)) + "\n]",
    "integers, base 16": lambda code: f"x = [{', '.join(map(hex, code))}]",
    "integers in rows": lambda code: f"x = {[list(code[first : first + 8]) for first in range(0, len(code), 8)]}",
    "escapes": lambda code: "x = b'" + "".join(f"\\x{value:02x}" for value in code) + "'",
}


@pytest.mark.parametrize("form", PACKED)
def test_packed_solution_is_found(form, secrets):
    code = "\n".join(code for task, code in solution_blocks(TABLE) if task == "2.4").encode()
    planted = f"import torch\n\n{PACKED[form](code)}\n"
    assert "solution of task 2.4" in leaks("helpers/more.py", planted, secrets)
    assert "solution of task 2.4" in leaks("a.ipynb", notebook(source=planted.splitlines(keepends=True)), secrets)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.encodebytes, bytes.hex, in_base64])
def test_packed_block_is_no_free_pass(encode, secrets):
    """Random bytes, as of a cipher: nobody can look into them."""
    packed = encode(random.Random(0).randbytes(300))
    text = packed if isinstance(packed, str) else repr(packed.decode())
    assert leaks("a.py", f"x = ({text})", secrets) == {"a block of letters and digits that cannot be looked into"}


def test_lines_of_a_text_are_one_text():
    assert list(strings({"a": ["b\n", "c"], "d": [1, ["e"]]})) == ["a", "b\nc", "d", "1", "e"]
