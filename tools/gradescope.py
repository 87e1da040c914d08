"""`kit gradescope`: build the zip that Gradescope calls an autograder."""

import json
import re
import stat
import zipfile
from pathlib import Path

from autograder.errors import KitError
from autograder.grade import require_no_images
from autograder.gradescope.__main__ import SETTINGS
from autograder.gradescope.grading import HELD_OUT
from autograder.gradescope.results import VISIBILITIES
from autograder.held_out import HeldOut, load_held_out
from autograder.tasks import ROOT, load_tasks
from tools.held_out import add_arguments, held_out_images

# Folder in the repository, patterns. All that grading needs, the answers too; it never goes to students.
FILES = [
    ("autograder", ("**/*.py", "pytest.ini", "reference/*/*.safetensors", "oracle/**/*.toml", "templates/*.html")),
    ("helpers", ("**/*.py",)),
    ("solutions", ("*.py", "tasks.toml")),
    (".", ("requirements.txt", "LICENSE")),
]
SCRIPTS = ("setup.sh", "run_autograder")  # at the root of the zip, where Gradescope looks for them
HOME = ROOT / "autograder" / "gradescope"
MOST_MINUTES = 40  # that Gradescope offers
IMAGES = 100  # a detector takes 0.13 s for one, on a core of its own; Gradescope's smallest container has half a core
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format knows no earlier time; a real one would make two builds differ


def configure(parser):
    """Add the command's arguments."""
    default = ROOT / "dist" / "autograder.zip"  # another name than in a release, whose SHA256SUMS stay true
    parser.add_argument("--out", type=Path, default=default, metavar="FILE", help="zip to write (dist/autograder.zip)")
    parser.add_argument("--minutes", type=int, default=10, metavar="N", help="time limit set in Gradescope (10)")
    parser.add_argument(
        "--hidden", choices=VISIBILITIES, default="after_published", help="when students see hidden tests' results"
    )
    parser.add_argument("--index", default="", metavar="URL", help="extra index for pip, such as one of CPU wheels")
    add_arguments(parser, IMAGES)


def run(args) -> int:
    """Write the zip."""
    held_out = held_out_images(args, IMAGES)
    if held_out is None:
        require_no_images(load_tasks())
    path = build_gradescope_zip(args.out, args.minutes, args.hidden, args.index, held_out)
    with zipfile.ZipFile(path) as archive:
        count = len(archive.namelist())
    print(f"wrote {path}: {count} files, {path.stat().st_size / 1024:.0f} KiB")
    return 0


def build_gradescope_zip(
    path: Path,
    minutes: int = 10,
    hidden: str = "after_published",
    index: str = "",
    held_out: HeldOut | None = None,
) -> Path:
    """Write the autograder zip; the same sources and settings give the same bytes.

    Args:
        path: of the zip, replaced as a whole when this command has written it.
        minutes: time limit that is set in Gradescope; grading ends before.
        hidden: visibility of the results of hidden tests.
        index: address of one more index for pip; empty for none.
        held_out: images that go along, to measure trained detectors on.

    Returns:
        `path`.

    Raises:
        KitError: a setting or the place is wrong, or a file is missing.
    """
    if not 1 <= minutes <= MOST_MINUTES:
        raise KitError(f"--minutes {minutes}: 1 to {MOST_MINUTES}, as set in Gradescope")
    if index and not re.fullmatch(r"https?://[\w./:~%+-]+", index):  # it becomes part of a shell script
        raise KitError(f"--index {index!r}: the address of an index for pip is needed, https://…")
    if path.is_dir() or path.suffix != ".zip":
        raise KitError(f"{path}: not the name of a zip")
    if path != ROOT / "dist" / path.name and not path.parent.is_dir():
        raise KitError(f"{path}: the folder {path.parent} does not exist")
    if path.exists() and not _is_ours(path):
        raise KitError(f"{path}: exists, and is no autograder of the kit; name another file with --out")
    files = autograder_files(minutes, hidden, index, held_out)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix: so that the modes count
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | (0o755 if name in SCRIPTS else 0o644)) << 16
            archive.writestr(entry, files[name])
    partial.replace(path)
    return path


def _is_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return SETTINGS.name in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def autograder_files(
    minutes: int = 10, hidden: str = "after_published", index: str = "", held_out: HeldOut | None = None
) -> dict[str, bytes]:
    """Return every file of the zip by its path there; see `build_gradescope_zip`.

    Raises:
        KitError: an entry of the list matches nothing.
    """
    files = {}
    for folder, patterns in FILES:
        for pattern in patterns:
            paths = [path.relative_to(ROOT) for path in (ROOT / folder).glob(pattern) if path.is_file()]
            # Editors keep copies in hidden folders, which git ignores: they are no sources.
            found = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
            if not found:
                raise KitError(f"the autograder needs {folder}/{pattern}, and there is no such file")
            files |= {path.as_posix(): (ROOT / path).read_bytes() for path in found}
    scripts = {name: (HOME / name).read_text(encoding="utf-8") for name in SCRIPTS}
    scripts["setup.sh"] = scripts["setup.sh"].replace(" @PIP@", f" --extra-index-url '{index}'" if index else "")
    settings = {"minutes": minutes, "hidden": hidden}
    if held_out is not None:
        images = load_held_out(held_out)
        settings["held_out"] = {"split": held_out.split, "images": len(images)}
        files |= {f"{HELD_OUT}/{name}": content for name, content in images.files(held_out.split).items()}
    settings = json.dumps(settings, indent=1) + "\n"
    return files | {name: text.encode() for name, text in (scripts | {SETTINGS.name: settings}).items()}
