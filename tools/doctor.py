"""`kit doctor`: looks whether everything is here that the kit needs, and says what to do where something is not.

Nothing of the kit's dependencies is imported at the top: where one of them is broken, this is the command that says so.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from autograder.errors import KitError

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TORCH = """
import json, torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]])
kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
memory = [torch.cuda.get_device_properties(i).total_memory for i in range(len(names))]
mps = torch.backends.mps.is_available()
print(json.dumps([torch.__version__, torchvision.__version__, kept == [1], names, memory, mps]))
"""


@dataclass(frozen=True)
class Finding:
    """What became of one check.

    Attributes:
        name: of the thing.
        state: "ok", "missing" (nothing works without it) or "limited" (the kit works, with less).
        detail: what was found.
        remedy: what to do; "" when all is well.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def configure(parser):
    """Add the command's arguments."""
    parser.add_argument("--offline", action="store_true", help="do not ask the mirrors of the data")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="seconds to wait for a mirror (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")


def run(args) -> int:
    """Print the findings; 0 when everything necessary is there, 1 when something is not."""
    if args.json and not args.json.parent.is_dir():
        raise KitError(f"{args.json}: the folder {args.json.parent} does not exist")
    findings = []
    for check in checks(args.offline, args.timeout):
        for finding in check():
            print(f"{finding.state:8} {finding.name}: {finding.detail}", flush=True)
            if finding.remedy:
                print(f"{'':8} -> {finding.remedy}", flush=True)
            findings.append(finding)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    limited = sum(finding.state == "limited" for finding in findings)
    print(f"missing: {', '.join(missing)}" if missing else f"everything necessary is there, {limited} limited")
    if args.json:
        from autograder.batch import write_whole

        write_whole(args.json, json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    return 1 if missing else 0


def checks(offline: bool, timeout: float) -> list[Callable[[], list[Finding]]]:
    """Return the checks, in the order in which one thing needs another."""
    local = [check_python, check_packages, check_torch, check_bubblewrap, check_namespaces, check_browser]
    local += [check_disk, check_references, check_data]
    return local if offline else [*local, lambda: check_mirrors(timeout)]


def check_python() -> list[Finding]:
    """Python, at least 3.10."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 10):  # noqa: UP036 - started some other way than by an installation that checks it
        return [Finding("python", "missing", version, "install Python 3.10 or newer, then: make PYTHON=python3.12")]
    return [Finding("python", "ok", version)]


def check_packages() -> list[Finding]:
    """Every dependency of the kit, in a version that it takes."""
    try:
        from packaging.requirements import Requirement

        needed = importlib.metadata.requires("fcos-course-kit") or []
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        return [Finding("packages", "missing", f"the kit is not installed ({error})", "run: make setup")]
    wrong, count = [], 0
    for requirement in map(Requirement, needed):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
    if wrong:
        return [Finding("packages", "missing", "; ".join(wrong), "run: make setup")]
    return [Finding("packages", "ok", f"{count} dependencies")]


def check_torch() -> list[Finding]:
    """The torch pair and the GPU, in a process of their own: a broken pair may bring its process down."""
    remedy = "install a pair that belongs together: pip install -r requirements.txt"
    try:
        done = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=300)
        torch, torchvision, right, names, memory, mps = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [Finding("torch", "missing", f"torch and torchvision do not work together: {last}", remedy)]
    except subprocess.TimeoutExpired:
        return [Finding("torch", "missing", "import torch, torchvision: no answer in 300 s", remedy)]
    pair = f"torch {torch}, torchvision {torchvision}"
    if not right:
        return [Finding("torch", "missing", f"{pair}: its NMS gives a wrong answer", remedy)]
    return [Finding("torch", "ok", pair), _gpu(names, memory, mps)]


def _gpu(names: list[str], memory: list[int], mps: bool) -> Finding:
    if names:
        return Finding("gpu", "ok", ", ".join(f"{name} ({size / 2**30:.0f} GiB)" for name, size in zip(names, memory)))
    if mps:
        return Finding("gpu", "ok", "Apple (mps)")
    return Finding("gpu", "limited", "none", "grading needs none; train on Colab, or with a torch that knows your GPU")


def check_bubblewrap() -> list[Finding]:
    """The program that isolates a submission best."""
    program = shutil.which("bwrap")
    if program is None:
        remedy = "on Debian and Ubuntu: apt-get install bubblewrap; elsewhere grade in a container or on Linux"
        return [Finding("bubblewrap", "limited", "not installed", remedy)]
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20)
    return [Finding("bubblewrap", "ok", done.stdout.strip() or program)]


def check_namespaces() -> list[Finding]:
    """The level of isolation that can really be had: it is tried, not guessed."""
    try:
        from autograder.isolation import LEVELS, choose_level

        level, warning = choose_level()
    except ImportError as error:
        return [Finding("isolation", "missing", str(error), "run: make setup")]
    if level == LEVELS[0] and not warning:
        return [Finding("isolation", "ok", f"{level}: namespaces can be made")]
    remedy = "allow namespaces for users (docker: --security-opt seccomp=unconfined), or grade on another machine"
    return [Finding("isolation", "limited", f"{level}: {warning}", remedy)]


def check_browser() -> list[Finding]:
    """A browser for the tests of the report."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        return [
            Finding(
                "browser",
                "limited",
                "no chromium",
                "only the kit's own tests of pages need one: apt-get install chromium",
            )
        ]
    return [Finding("browser", "ok", program)]


def check_disk() -> list[Finding]:
    """Room for submissions and results, and for VOC2007."""
    findings = []
    for name, folder in (("disk", ROOT), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / 2**30
        if not os.access(folder, os.W_OK):
            findings.append(Finding(name, "missing", f"{folder} cannot be written", "give yourself the right to write"))
        elif free < 1:
            findings.append(Finding(name, "missing", f"{free:.1f} GiB free in {folder}", "make room: 1 GiB at least"))
        elif free < 5:
            findings.append(Finding(name, "limited", f"{free:.1f} GiB free in {folder}", "VOC2007 and runs take 5 GiB"))
        else:
            findings.append(Finding(name, "ok", f"{free:.0f} GiB free"))
    return findings


def check_references() -> list[Finding]:
    """What submissions are compared with."""
    folder = ROOT / "autograder" / "reference"
    missing = [kind for kind in ("public", "hidden") if not any((folder / kind).glob("*.safetensors"))]
    if missing:
        return [Finding("references", "missing", f"no {' and no '.join(missing)} tensors", "run: kit reference")]
    return [Finding("references", "ok", f"{len(list(folder.glob('*/*.safetensors')))} files")]


def check_data() -> list[Finding]:
    """VOC2007, or the generated sample. Grading needs neither."""
    named = os.environ.get("FCOS_VOC_ROOT")
    for root in filter(None, (named, ROOT / "data" / "voc2007")):
        lists = Path(root) / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
        if (lists / "train.txt").is_file():
            return [Finding("data", "ok", f"VOC2007 in {root}")]
    if named:
        return [
            Finding("data", "limited", f"FCOS_VOC_ROOT={named}: no VOCdevkit/VOC2007 in there", "correct or unset it")
        ]
    if (ROOT / "data" / "sample" / "VOCdevkit").is_dir():
        return [Finding("data", "limited", "the generated sample", "for real images: kit data voc2007")]
    return [
        Finding("data", "limited", "none", "for real images: kit data voc2007; for generated ones: kit data sample")
    ]


def check_mirrors(timeout: float) -> list[Finding]:
    """The addresses that VOC2007 can be fetched from, all asked at once."""
    manifest = json.loads((ROOT / "data" / "manifest.json").read_text(encoding="utf-8"))
    name = manifest["archives"]["trainval"]["file"]
    own = os.environ.get("FCOS_VOC_MIRROR", "").split()
    mirrors = [*own, *manifest["mirrors"]]
    with ThreadPoolExecutor(len(mirrors)) as pool:
        answers = list(pool.map(lambda mirror: _ask(f"{mirror.rstrip('/')}/{name}", timeout), mirrors))
    working = [mirror for mirror, problem in zip(mirrors, answers) if not problem]
    if working:
        return [Finding("mirrors", "ok", f"{len(working)} of {len(mirrors)} answer, {working[0]} first")]
    problems = "; ".join(f"{mirror}: {problem}" for mirror, problem in zip(mirrors, answers))
    remedy = f"get {name} on another machine, then: kit data voc2007 --archive FILE; a mirror of yours: FCOS_VOC_MIRROR"
    return [Finding("mirrors", "limited", f"none answers ({problems})", remedy)]


def _ask(url: str, timeout: float) -> str:
    """Return why an address does not give its file; "" when it does."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
