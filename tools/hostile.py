"""Hostile submissions and their honest twins: reads the fixtures and builds the submissions.

A fixture is one Python file. Its first lines, commented out, are TOML; then come sections that say what is done to the
solutions to make the hostile submission ("hostile"), its twin ("twin") or both:

    # row = 5
    # title = "replaces what might compare answers"
    # removes = ["2.4"]         tasks that the hostile submission does not solve; each earns nothing
    # grades = ["2.3", "2.4"]   tasks that are graded
    # ---- hostile: end common.py
    ...

`start FILE` and `end FILE` add code to one of the two files, `file NAME` adds a file, `task ID` puts code where a
task's solution was, `recode FILE ENCODING [crlf]` writes a file in another form.

Optional keys:
    deserves    points by task, where they are not all or nothing
    level       the weakest that stops it; "process" by default
    seconds, memory_gib    limits of one probe
    says        text that the reason of a task must hold
    flags, notes    text that a flag, or a note, must hold
    weights     kinds of files, see `weights_file`; the first is the hostile `fcos_detector.pt`
    steady      false where what it returns, and so the reason of a task, differs from run to run
    listens     whether somebody on this machine waits for a connection
"""

import re
import secrets
import subprocess
import textwrap
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import FILES, ROOT, TaskTable, load_tasks
from tools.strip import strip_solutions

FIXTURES = ROOT / "tests" / "hostile" / "fixtures"
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")
_SECTION = re.compile(r"^# ---- (hostile|twin|both): (start|end|file|task|recode) (.+)$")


@dataclass(frozen=True)
class Section:
    """One change of the solutions."""

    kind: str
    argument: str
    code: str


@dataclass(frozen=True)
class Fixture:
    """A hostile submission and its honest twin; see the module's docstring for the keys.

    Attributes:
        name: of the file, without `.py`.
        hostile, twin: the sections of each.
    """

    name: str
    row: int
    title: str
    grades: tuple[str, ...]
    removes: tuple[str, ...] = ()
    deserves: dict[str, int] = field(default_factory=dict)
    level: str = "process"
    seconds: float = 8.0
    memory_gib: float = 4.0
    says: dict[str, str] = field(default_factory=dict)
    flags: str = ""
    notes: str = ""
    weights: tuple[str, ...] = ()
    steady: bool = True
    listens: bool = False
    hostile: tuple[Section, ...] = ()
    twin: tuple[Section, ...] = ()


def load_fixtures(folder: Path = FIXTURES) -> list[Fixture]:
    """Read all fixtures, in the order of their names.

    Raises:
        KitError: there are none, or one is written wrongly.
    """
    fixtures = [load_fixture(path) for path in sorted(folder.glob("*.py"))]
    if not fixtures:
        raise KitError(f"{folder}: no hostile fixtures; they are part of the kit's repository, not of its package")
    return fixtures


def load_fixture(path: Path) -> Fixture:
    """Read one fixture; `KitError` names the file when it is written wrongly."""
    from autograder.tasks import tomllib

    header: list[str] = []
    sections: list[tuple[str, str, str, list[str]]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("# ---- "):
            found = _SECTION.match(line)
            if not found:
                raise KitError(f"{path}:{number}: not a section: {line}")
            sections.append((*found.groups(), []))
        elif sections:
            sections[-1][3].append(line)
        else:
            header.append(line.removeprefix("#"))
    try:
        keys = tomllib.loads("\n".join(header))
        for name in ("grades", "removes", "weights"):
            keys[name] = tuple(keys.get(name, ()))
        parts = {
            whose: tuple(
                Section(kind, argument, "\n".join(lines).strip("\n") + "\n")
                for owner, kind, argument, lines in sections
                if owner in (whose, "both")
            )
            for whose in ("hostile", "twin")
        }
        return Fixture(path.stem, **keys, **parts)
    except (TypeError, tomllib.TOMLDecodeError) as error:
        raise KitError(f"{path}: {error}") from None


@dataclass
class Marks:
    """Names that one hostile submission would leave behind, or call, if it could; in its code they are written @TRACE@,
    @SURVIVOR@, @SOCKET@ and @PORT@.

    Attributes:
        trace: a file or folder on the machine, and the beginning of the names of others.
        survivor: an argument of a process that is to outlive the grading.
        socket: of somebody on this machine.
        port: of the same, on the loopback.
    """

    trace: Path
    survivor: str
    socket: str
    port: int = 0

    @classmethod
    def fresh(cls) -> "Marks":
        """Return marks that no other submission has."""
        word = f"fcos-hostile-{secrets.token_hex(6)}"
        return cls(Path(f"/tmp/{word}"), word, f"/tmp/{word}-socket")

    def put_into(self, code: str) -> str:
        """Return code with the names written out."""
        names = {"TRACE": self.trace, "SURVIVOR": self.survivor, "SOCKET": self.socket, "PORT": self.port}
        return re.sub(r"@(TRACE|SURVIVOR|SOCKET|PORT)@", lambda found: str(names[found[1]]), code)

    def remove_trace(self) -> bool:
        """Remove the trace, and everything whose name begins with it; whether there was anything."""
        found = [path for folder in _SHARED for path in Path(folder).glob(f"{self.trace.name}*")]
        # Not shutil.rmtree: folders can be nested more deeply than Python can follow.
        subprocess.run(["rm", "-rf", "--", *found], check=True)
        return bool(found)


def build(fixture: Fixture, kind: str, folder: Path, marks: Marks) -> None:
    """Write a submission's files.

    Args:
        fixture: what to build.
        kind: "hostile" or "twin".
        folder: to write to; it is made.
        marks: names in its code.
    """
    folder.mkdir(parents=True)
    sections = fixture.hostile if kind == "hostile" else fixture.twin
    sections = [replace(section, code=marks.put_into(section.code)) for section in sections]
    table = load_tasks()
    removed = set(fixture.removes) if kind == "hostile" else set()
    replaced = {section.argument: section.code for section in sections if section.kind == "task"}
    for name in FILES:
        text = (ROOT / "solutions" / name).read_text(encoding="utf-8")
        for task, code in replaced.items():
            text = _put(text, task, code)
        (folder / name).write_text(strip_solutions(text, name, _all_given_but(table, removed - set(replaced))))
    for section in sections:
        _apply(section, folder)
    if fixture.weights:
        weights_file(fixture.weights[0] if kind == "hostile" else "honest", folder / "fcos_detector.pt", marks)
        for other in fixture.weights if kind == "hostile" else ():
            weights_file(other, folder / f"{other}.pt", marks)


def _apply(section: Section, folder: Path) -> None:
    if section.kind in ("start", "end"):
        path = folder / section.argument
        texts = [section.code, path.read_text()]
        path.write_text("\n".join(texts if section.kind == "start" else reversed(texts)))
    elif section.kind == "file":
        path = folder / section.argument
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(section.code)
    elif section.kind == "recode":
        name, encoding, *options = section.argument.split()
        newline = "\r\n" if "crlf" in options else "\n"
        text = (folder / name).read_text()
        (folder / name).write_bytes(text.replace("\n", newline).encode(encoding))


def _put(text: str, task: str, code: str) -> str:
    """Replace a task's only block by other code, which stays in place as if it were given."""
    block = re.compile(
        rf"^(?P<indent> *)# BEGIN SOLUTION {re.escape(task)}\n.*?^ *# END SOLUTION {re.escape(task)}\n",
        re.MULTILINE | re.DOTALL,
    )
    if len(block.findall(text)) > 1:
        raise KitError(f"task {task} has several blocks; a fixture can replace only one")
    return block.sub(lambda found: textwrap.indent(code, found["indent"]), text)


def _all_given_but(table: TaskTable, removed: set[str]) -> TaskTable:
    return replace(table, tasks=tuple(replace(task, given=task.id not in removed) for task in table.tasks))


def weights_file(kind: str, path: Path, marks: Marks) -> None:
    """Write a file of weights: "honest", or "pickle", "torchscript", "bomb", "text", "legacy"."""
    import io
    import zipfile

    import torch

    if kind == "honest":
        torch.save({"backbone.weight": torch.zeros(4, 3), "head.bias": torch.ones(4)}, path)
    elif kind == "pickle":
        torch.save({"weight": torch.zeros(2), "run": _Payload(marks)}, path)
    elif kind == "legacy":
        torch.save(_Payload(marks), path, _use_new_zipfile_serialization=False)
    elif kind == "torchscript":
        with warnings.catch_warnings():  # newer versions call it deprecated; files of that kind remain
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    elif kind == "bomb":
        buffer = io.BytesIO()
        torch.save({"weight": torch.zeros(1 << 20)}, buffer)
        with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for entry in plain.infolist():
                packed.writestr(entry.filename, plain.read(entry))
    elif kind == "text":
        path.write_text("these are not weights\n")
    else:
        raise KitError(f"no weights file of kind {kind!r}")


class _Payload:
    """Unpickled, it would leave a trace."""

    def __init__(self, marks: Marks):
        self._path = str(marks.trace)

    def __reduce__(self):
        return (open, (self._path, "w"))
