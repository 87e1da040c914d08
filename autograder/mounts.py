"""What a worker at level `bubblewrap` sees of the file system: exactly this list, read only, and some empty memory."""

import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from autograder.tasks import ROOT, default_table_path

KIT = "/kit"  # worker and helpers, inside
SUBMISSION = "/submission"
SCRATCH = ("/tmp", "/dev/shm")  # the only places to write to
SCRATCH_BYTES = 256 << 20
_SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/lib32")
# Of the kit, where it happens to lie below something that is shown: as an installed package beside torch, say.
_SECRET = (
    default_table_path().parent,
    *(ROOT / name for name in ("autograder", "tests", "tools", "assignment", "notebooks", "benchmarks", ".git")),
)


@dataclass(frozen=True)
class Bind:
    """A file or folder of the host, read only."""

    source: str
    target: str


def interpreter() -> str:
    """Return the real interpreter, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def package_folders() -> list[str]:
    """Return the folders that a worker imports packages from."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for name in ("torch", "torchvision", "numpy"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            folders.append(str(Path(spec.origin).parent.parent))
    return list(dict.fromkeys(folder for folder in folders if os.path.isdir(folder)))


def binds(submission: str) -> list[Bind]:
    """Return what is shown: interpreter, standard library, packages, system libraries, worker, helpers, submission."""
    paths = [interpreter(), *(os.path.join(sys.base_prefix, name) for name in ("lib", "lib64"))]
    paths += [sysconfig.get_path("stdlib"), *package_folders()]
    paths += [path for path in _SYSTEM_LIBRARIES if not os.path.islink(path)]
    paths += ["/etc/ld.so.cache", "/sys/devices/system/cpu"]
    outermost = [path for path in dict.fromkeys(paths) if not any(path.startswith(f"{other}/") for other in paths)]
    return [
        *(Bind(path, path) for path in outermost if os.path.exists(path)),
        Bind(str(ROOT / "autograder" / "worker"), f"{KIT}/worker"),
        Bind(str(ROOT / "helpers"), f"{KIT}/helpers"),
        Bind(submission, SUBMISSION),
    ]


def mount_arguments(submission: str) -> list[str]:
    """Return bubblewrap's arguments for the whole file system.

    Args:
        submission: folder on the host that appears as `SUBMISSION`.
    """
    arguments = ["--proc", "/proc", "--dev", "/dev"]
    for path in SCRATCH:
        arguments += ["--size", str(SCRATCH_BYTES), "--perms", "1777", "--tmpfs", path]
    shown = {bind.target: bind.source for bind in binds(submission)}
    hidden = _kit_folders_below(shown)
    content = {**shown, **dict.fromkeys(hidden)}
    made = set()
    for target in sorted(content):  # outer folders before inner ones, which they would cover
        for parent in map(str, reversed(Path(target).parents)):
            # Bubblewrap would make a missing parent for root alone.
            if parent != "/" and parent not in made and not _source_of(parent, content):
                made.add(parent)
                arguments += ["--perms", "0755", "--dir", parent]
        source = content[target]
        arguments += ["--ro-bind", source, target] if source else ["--perms", "0755", "--tmpfs", target]
    for path in _SYSTEM_LIBRARIES:
        if os.path.islink(path) and path not in shown:
            arguments += ["--symlink", os.readlink(path), path]
    for path in [*hidden, "/dev", "/"]:
        arguments += ["--remount-ro", path]
    return [*arguments, "--chdir", SCRATCH[0]]


def _source_of(path: str, content: dict[str, str | None]) -> str | None:
    """Return the source of the innermost entry that covers a path; None where that is an empty folder, or none does."""
    covering = [target for target in content if Path(path).is_relative_to(target)]
    return content[max(covering, key=len)] if covering else None


def _kit_folders_below(shown: dict[str, str]) -> list[str]:
    """Return the parts of the kit that would come along with a folder around them."""
    places = _SECRET if str(ROOT) in shown else [ROOT]
    return [str(place) for place in places if place.is_dir() and _source_of(str(place), shown)]
