"""Set-up of the notebook: find the assignment, put it on the path, and say on what machine it runs.

The first cell of the notebook finds this file and calls `set_up`; the same call works in Colab, in JupyterLab and in a
script, and a second call changes nothing.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

STUDENT_FILES = ("common.py", "one_stage_detector.py")
NOTEBOOK_NAME = "one_stage_detector.ipynb"
# Folders that may hold files of these names and are never somebody's work.
SKIPPED = {"solutions", "tests", "build", "dist", "node_modules", "__pycache__", "__MACOSX"}
SEARCH_DEPTH = 4  # Drive is slow to list: look at MyDrive/a/b/c/d and no deeper
COLAB_LACKS = ("wget", "safetensors")


@dataclass(frozen=True)
class Workspace:
    """Where things are: the folders are absolute, exist, and may have spaces in their names."""

    assignment: Path  # the two files that you edit
    output: Path  # checkpoints, pictures and the zip to hand in; on Drive when in Colab
    data: Path  # images; a local disk when in Colab, since Drive is slow with many small files
    notebook: Path | None  # the file of this notebook, where it could be found
    device: str  # "cuda" or "cpu"
    in_colab: bool


def set_up(ask: Callable[[str], str] | None = None) -> Workspace:
    """Prepare a notebook: path, autoreload, greetings of the three files, GPU check.

    In Colab an archive of VOC2007 in the assignment's folder is taken in place of a download.
    `FCOS_ASSIGNMENT` names the folder with the two files when the search should not decide, `FCOS_DATA` another folder
    for images, `FCOS_DRIVE` where Google Drive is mounted (`/content/drive`).

    Args:
        ask: called with a question when several folders qualify, returns the answer; `None` asks with `input`.

    Returns:
        The `Workspace`.

    Raises:
        FileNotFoundError: no folder holds both files; the message says where it looked.
        RuntimeError: several do, and nobody is there to ask.
    """
    in_colab = is_colab()
    if in_colab:
        _install_missing()
    assignment = _choose(_candidates(in_colab), ask or input)
    # The checks, which run in another process, and a second run of this cell find the same folder.
    os.environ["FCOS_ASSIGNMENT"] = str(assignment)
    _put_first_on_path(assignment)
    if in_colab:
        _remember_archive(assignment)
    _prepare_shell()
    workspace = Workspace(
        assignment=assignment,
        output=writable_folder(assignment / "runs"),
        data=_data_folder(in_colab),
        notebook=_find_notebook(assignment),
        device=_device(),
        in_colab=in_colab,
    )
    print(f"Assignment folder: {assignment}")
    _greet(assignment)
    _describe_device(workspace)
    return workspace


def is_colab() -> bool:
    """Tell whether this is a Colab runtime, without importing anything of it."""
    try:
        return find_spec("google.colab") is not None
    except ModuleNotFoundError:  # not even a package `google`
        return False


def find_assignments(root: Path, depth: int = SEARCH_DEPTH) -> list[Path]:
    """Find folders that hold both student files, at or below a folder.

    Args:
        root: where to start.
        depth: how many levels below `root` to look at.

    Returns:
        Folders, nearest and then alphabetically first; nothing below a folder that qualifies is looked at.
    """
    found, level = [], [Path(root)]
    for _ in range(depth + 1):
        below = []
        for folder in level:
            if all((folder / name).is_file() for name in STUDENT_FILES):
                found.append(folder)
            else:
                below += _subfolders(folder)
        level = below
    return found


def writable_folder(folder: Path) -> Path:
    """Make a folder, or one of the same name under the temporary folder where it cannot be written to.

    Args:
        folder: the folder that is wanted.

    Returns:
        An existing folder that files can be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        instead = Path(tempfile.gettempdir()) / "fcos" / folder.name
        instead.mkdir(parents=True, exist_ok=True)
        print(f"{folder} cannot be written to; using {instead}, which may vanish when this machine stops.")
        return instead


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in SKIPPED and p.name[0] != ".")
    except OSError:  # a folder that may not be listed is not the assignment
        return []


def _candidates(in_colab: bool) -> list[Path]:
    named = os.environ.get("FCOS_ASSIGNMENT")
    if named:
        if not all((Path(named) / name).is_file() for name in STUDENT_FILES):
            raise FileNotFoundError(
                f"FCOS_ASSIGNMENT is {named}, where {' and '.join(STUDENT_FILES)} are not both found"
            )
        return [Path(named).resolve()]
    if in_colab:
        drive = Path(os.environ.get("FCOS_DRIVE", "/content/drive"))
        roots = [drive / "MyDrive", *(drive / "Shareddrives").glob("*"), Path.cwd()]
        found = [folder.resolve() for root in roots for folder in find_assignments(root)]
        # The runtime's own folder holds the mounted Drive, so that the same folder may be found twice.
        found = list(dict.fromkeys(found))
    else:
        # Beside the notebook, or beside one of the folders that it lies in: the nearest counts.
        roots = [Path.cwd(), *Path.cwd().parents]
        nearby = (folder for root in roots for folder in (root, root / "assignment"))
        found = [f for f in nearby if all((f / name).is_file() for name in STUDENT_FILES)][:1]
    if not found:
        raise FileNotFoundError(
            f"No folder with {' and '.join(STUDENT_FILES)} in {', '.join(map(str, roots[:3]))}. Unzip the assignment "
            + ("in Google Drive and run this cell again." if in_colab else "and start the notebook inside it.")
        )
    return found


def _choose(folders: list[Path], ask: Callable[[str], str]) -> Path:
    """The only candidate, or the one that the student picks."""
    if len(folders) == 1:
        return folders[0]
    listing = "\n".join(f"  {n}  {folder}  ({last_edited(folder)})" for n, folder in enumerate(folders, start=1))
    question = f"Several folders hold the assignment:\n{listing}\nWhich one do you work in? Type its number: "
    while True:
        try:
            answer = ask(question).strip()
        except (NotImplementedError, EOFError) as error:  # a notebook that runs with nobody in front of it
            raise RuntimeError(
                f"{question}\nNobody answered: set the variable FCOS_ASSIGNMENT to the folder."
            ) from error
        if answer.isdecimal() and 1 <= int(answer) <= len(folders):
            return folders[int(answer) - 1]
        question = f"Please type a number from 1 to {len(folders)}: "


def _put_first_on_path(assignment: Path) -> None:
    """Import the student's files from `assignment` and nowhere else."""
    kit = next((p for p in (assignment, *assignment.parents) if (p / "helpers" / "notebook.py").is_file()), None)
    first = [str(p) for p in dict.fromkeys((assignment, kit)) if p is not None]
    # Last, so that it shadows nothing: names that submissions of the original assignment import.
    last = [str(kit / "helpers" / "legacy")] if kit is not None else []
    sys.path[:] = first + [entry for entry in sys.path if entry not in first + last] + last
    modules = {Path(name).stem: assignment for name in STUDENT_FILES}
    if kit is not None:
        modules |= {"helpers": kit, "autograder": kit}
    for name, home in modules.items():
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not Path(file).resolve().is_relative_to(home):
            # Another copy was imported before, such as that of another folder on Drive.
            for loaded in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
                del sys.modules[loaded]
    importlib.invalidate_caches()


def _prepare_shell() -> None:
    """Let every cell see the files as they are on disk, show figures, and say in one line that a task is still open."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    if not any("autoreload" in name for name in shell.extension_manager.loaded):
        shell.run_line_magic("load_ext", "autoreload")
    shell.run_line_magic("autoreload", "2")
    shell.run_line_magic("matplotlib", "inline")
    shell.set_custom_exc((NotImplementedError,), _show_open_task)


def _show_open_task(shell, kind, error, traceback, tb_offset=None) -> None:
    """Handle a cell that ran into a task that is not written yet; every other error keeps its traceback."""
    if not str(error).startswith("Task "):
        shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)
        return
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = f"{Path(traceback.tb_frame.f_code.co_filename).name}, line {traceback.tb_lineno}"
    print(f"{error} is still to be written ({place}). Write it, then run this cell again.")


def _install_missing() -> None:
    missing = [name for name in COLAB_LACKS if find_spec(name) is None]
    if missing:
        result = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", *missing], capture_output=True, text=True
        )
        importlib.invalidate_caches()
        if result.returncode:
            print(
                f"Installing {', '.join(missing)} failed; go on, only the download needs it:\n{result.stderr.strip()}"
            )


def _remember_archive(assignment: Path) -> None:
    """Let downloads take an archive of VOC2007 that lies beside the notebook: a new runtime has no images."""
    names = [path.name.lower() for path in assignment.iterdir()]
    if any(("voc" in name or "pascal" in name) and name.endswith((".tar", ".zip", ".tgz", ".gz")) for name in names):
        os.environ.setdefault("FCOS_VOC_ARCHIVE", str(assignment))


def _data_folder(in_colab: bool) -> Path:
    named = os.environ.get("FCOS_DATA")
    if named and (Path(named) / "VOCdevkit").is_dir():
        return Path(named).resolve()  # it is complete, so that it may be read-only
    default = Path("/content/fcos-data") if in_colab else Path(__file__).resolve().parent.parent / "data"
    return writable_folder(Path(named).resolve() if named else default)


def _find_notebook(assignment: Path) -> Path | None:
    """The file of this notebook: what Jupyter says, else the file of its usual name near the assignment."""
    session = Path(os.environ.get("JPY_SESSION_NAME", ""))
    nearby = [folder / NOTEBOOK_NAME for folder in (assignment, assignment.parent, assignment.parent / "notebooks")]
    for path in (session, Path.cwd() / NOTEBOOK_NAME, *nearby):
        if path.suffix == ".ipynb" and path.is_file():
            return path.resolve()
    return None


def _greet(assignment: Path) -> None:
    """Import the student's files, let them say hello, and tell how fresh they are; name a broken one, raise nothing."""
    for name in STUDENT_FILES:
        module = Path(name).stem
        try:
            getattr(importlib.import_module(module), f"hello_{module}")()
        except SyntaxError as error:
            print(f"{name} has a syntax error in line {error.lineno}: {error.msg}. Fix it and run this cell again.")
        except Exception as error:  # whatever the student's file does at import: say it, and go on with the rest
            print(f"{name} could not be imported: {type(error).__name__}: {error}")
    print("Hello from the helpers!")
    print(last_edited(assignment))


def last_edited(folder: Path) -> str:
    """Say when the student's files were last edited.

    Args:
        folder: holds both files.

    Returns:
        One line such as "common.py edited 3 minutes ago, one_stage_detector.py edited 2 days ago".
    """
    return ", ".join(f"{name} edited {_ago(time.time() - (folder / name).stat().st_mtime)}" for name in STUDENT_FILES)


def _ago(seconds: float) -> str:
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _describe_device(workspace: Workspace) -> None:
    import torch

    if workspace.device == "cuda":
        print(f"GPU: {torch.cuda.get_device_name()}. The full run will take about the time that section 1 says.")
        return
    remedy = "choose Runtime > Change runtime type > T4 GPU" if workspace.in_colab else "use a machine with a CUDA GPU"
    print(
        f"No GPU: the quick run is made for that ({torch.get_num_threads()} CPU threads). For the full run, {remedy}."
    )
