"""What only the course may know, in a form that can be looked for: `tools.leaks` looks."""

import ast
import hashlib
import json
import keyword
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autograder.tasks import FILES, ROOT, TaskTable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOLUTION_RUN = 12  # tokens in a row of a solution: about one line with a thought in it
DISGUISED_RUN = 20  # of a solution whose names do not matter: shorter ones are in honest code, too
STAFF_RUN = 24  # of a hidden test, a mutant or a variant: short phrases are those of public tests and of helpers, too
NUMBERS_IN_A_ROW = 4
# Lines of files that students need, which solutions or the oracle happen to share and which give nothing away.
HARMLESS = (
    ".modules(): if isinstance(module, nn.",  # helpers/training_run.py freezes batch norm
    ") nn.init.constant_(self.pred_cls.bias, -",  # autograder/worker/fakes.py sets another number
    # autograder/tasks.py reads a TOML file, too
    "try: text = path.read_text(encoding='utf-8') raw = tomllib.loads(text)"
    " except OSError as error: raise KitError(f'{path}:",
    "cannot be read ({error.strerror})') from None"
    " except tomllib.TOMLDecodeError as error: raise KitError(f'{path}: {error}') from None",
)
_TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*|[^\s\w#\\\"'`]")
_BLOCK = re.compile(r"^[ \t]*# BEGIN SOLUTION (\S+)\n(.*?)^[ \t]*# END SOLUTION", re.MULTILINE | re.DOTALL)
_ANSWER = re.compile(
    r"^# %% \[markdown\] id=\"([\w-]+)\"[^\n]* points=\d+[^\n]*\n(.*?)(?=^# %%|\Z)", re.MULTILINE | re.DOTALL
)
_DIGITS = re.compile(r"\.(\d{9,})")  # of a number that was computed
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U8": "u1"}  # whole numbers are indices, the same everywhere


@dataclass
class Secrets:
    """What must not be found.

    Attributes:
        runs: tokens in a row -> what they belong to.
        disguised: the same of solutions, every name but attributes and keywords made one.
        names: words and long numbers that only hidden things have -> what they are.
        files: SHA-256 of a hidden file -> which it is.
        tensors: bytes of a hidden tensor, in single and double precision -> whose they are.
        numbers: numbers in a row of a hidden tensor, as they are printed -> whose they are.
        sizes: lengths of the runs.
    """

    runs: dict[tuple[str, ...], str] = field(default_factory=dict)
    disguised: dict[tuple[str, ...], str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    tensors: dict[bytes, str] = field(default_factory=dict)
    numbers: dict[tuple[str, ...], str] = field(default_factory=dict)
    sizes: tuple[int, ...] = (SOLUTION_RUN, STAFF_RUN)


def read_secrets(table: TaskTable, root: Path = ROOT) -> Secrets:
    """Collect what must not be found in a release of the repository `root`; its skeletons are no secret."""
    secrets = Secrets()
    shared = [view for name in FILES for view in commented_out((root / "assignment" / name).read_text("utf-8"))]
    shared += map(tokens, HARMLESS)
    references = root / "autograder" / "reference"
    told = "".join(header_text(path.read_bytes()) for path in sorted((references / "public").glob("*.safetensors")))
    shared.append(tokens(told))
    harmless = {run for one in shared for size in secrets.sizes for run in runs(one, size)}
    nameless = {run for one in shared for run in runs(without_names(one), DISGUISED_RUN)}

    def keep(what: str, code: str, size: int) -> None:
        secrets.runs.update({run: what for run in runs(tokens(_without_comments(code)), size) if run not in harmless})

    for folder, kind in (("mutants", "mutant"), ("variants", "variant")):
        for path in sorted((root / "tests" / folder).glob("*.toml")):
            for entry in tomllib.loads(path.read_text("utf-8")).get(kind, []):
                for code in strings({key: value for key, value in entry.items() if key not in ("hint", "why")}):
                    keep(f"{kind} {entry.get('name')!r} of {path.name}", code, STAFF_RUN)
    for path in sorted((root / "autograder" / "graded" / "hidden").glob("test_*.py")):
        text = path.read_text("utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                secrets.names[node.name] = f"hidden test {node.name}"
                keep(f"hidden test {node.name}", ast.get_source_segment(text, node), STAFF_RUN)
    for path in sorted((root / "autograder" / "oracle").rglob("*.py")):
        text = path.read_text("utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Assign)):  # imports are everybody's
                keep(f"oracle module {path.name}", ast.get_source_segment(text, node), STAFF_RUN)
    for path in sorted((references / "hidden").glob("*.safetensors")):
        what, content = f"hidden tensor of {path.stem}", path.read_bytes()
        secrets.files[hashlib.sha256(content).hexdigest()] = f"hidden reference {path.name}"
        for tensor in _tensors(content):
            _keep_tensor(secrets, what, tensor)
        said = header_text(content)
        keep(f"hidden reference {path.name}", said, STAFF_RUN)
        secrets.names.update({digits: what for digits in _DIGITS.findall(said) if digits not in told})
    for name, answer in model_answers(root):
        keep(f"model answer {name}", answer, SOLUTION_RUN)
    for task, code in solution_blocks(table, root):
        keep(f"solution of task {task}", code, SOLUTION_RUN)
        for run in runs(without_names(tokens(_without_comments(code))), DISGUISED_RUN):
            if run not in nameless:
                secrets.disguised[run] = f"solution of task {task} under other names"
    return secrets


def solution_blocks(table: TaskTable, root: Path = ROOT) -> list[tuple[str, str]]:
    """Return (task, code) of every block that students have to write."""
    texts = [(root / "solutions" / name).read_text("utf-8") for name in FILES]
    return [(task, code) for text in texts for task, code in _BLOCK.findall(text) if not table[task].given]


def model_answers(root: Path = ROOT) -> list[tuple[str, str]]:
    """Return (id, text) of every answer in words that the notebooks' masters hold."""
    texts = [path.read_text("utf-8") for path in sorted((root / "solutions" / "notebooks").glob("*.py"))]
    return [
        (name, re.sub(r"^# ?", "", text, flags=re.MULTILINE)) for one in texts for name, text in _ANSWER.findall(one)
    ]


def tokens(text: str) -> list[str]:
    """Split code or prose into words, numbers and signs.

    What a formatter changes is left out: spaces, quotes, `#`, a comma before a closing bracket.
    """
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if token in ")]}" and found and found[-1] == ",":
            found.pop()
        found.append(token)
    return found


def commented_out(text: str) -> list[list[str]]:
    """Return the tokens of a text with its comments, without them, and of the code that stands in comments."""
    uncommented = re.sub(r"^[ \t]*#+", "", text, flags=re.MULTILINE)
    return [tokens(text), tokens(_without_comments(text)), tokens(_without_comments(uncommented))]


def without_names(words: list[str]) -> list[str]:
    """Return tokens with one word for all names that an author is free to choose."""
    return [
        "name" if word.isidentifier() and before != "." and not keyword.iskeyword(word) else word
        for before, word in zip(["", *words], words)
    ]


def runs(items: list, size: int) -> Iterator[tuple]:
    """Yield every `size` items in a row."""
    return zip(*(items[start:] for start in range(size)))


def strings(value) -> Iterator[str]:
    """Yield every text in nested dicts and lists, keys too; a list of lines, as notebooks have it, is one text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for one in pair for text in strings(one))
    elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        yield "".join(value)
    elif isinstance(value, Iterable):
        yield from (text for one in value for text in strings(one))
    elif isinstance(value, (int, float)):
        yield str(value)


def as_printed(number: float) -> str:
    """A number as torch prints it."""
    return f"{number:.4f}"


def safetensors_header(content: bytes) -> tuple[dict, bytes]:
    """Return what a safetensors file says about its tensors, its metadata parsed, and the bytes of the tensors."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    header["__metadata__"] = {key: json.loads(value) if key == "case" else value for key, value in metadata.items()}
    return header, content[8 + size :]


def header_text(content: bytes) -> str:
    """Return what the head of a reference says of its case: inputs, answers and mistakes, but for the tensors."""
    return json.dumps(safetensors_header(content)[0]["__metadata__"].get("case", ""))


def _tensors(content: bytes) -> Iterator[np.ndarray]:
    header, data = safetensors_header(content)
    for entry in header.values():
        if entry.get("dtype") in _TYPES:
            begin, end = entry["data_offsets"]
            yield np.frombuffer(data[begin:end], _TYPES[entry["dtype"]])


def _keep_tensor(secrets: Secrets, what: str, tensor: np.ndarray) -> None:
    """Keep a tensor that has something to tell: not a few numbers, not one repeated."""
    if np.unique(tensor).size < NUMBERS_IN_A_ROW or len(tensor) < 2 * NUMBERS_IN_A_ROW:
        return
    if tensor.dtype.kind != "f":
        secrets.tensors[tensor.tobytes()] = what
        return
    for kind in ("<f4", "<f8"):
        secrets.tensors[tensor.astype(kind).tobytes()] = what
    for run in runs(tensor.tolist(), NUMBERS_IN_A_ROW):
        # Whole and half numbers in a row, as locations are, stand in every text.
        if len(set(run)) == NUMBERS_IN_A_ROW and all(8 * number % 1 for number in run):
            secrets.numbers[tuple(map(as_printed, run))] = what


def _without_comments(code: str) -> str:
    return re.sub(r"#.*", "", code)
