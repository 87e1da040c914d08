"""The autograder zip, run in the layout of Gradescope's container under a temporary root."""

import argparse
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch

from autograder.grade import NOT_RUN, refused_results
from autograder.gradescope import __main__ as container
from autograder.gradescope import grading
from autograder.gradescope.memory import LEAST, container_memory, memory_for_probe
from autograder.gradescope.results import results_json, write_results
from autograder.held_out import HeldOut, described
from autograder.tasks import FILES, ROOT, load_tasks
from helpers.sample import make_sample
from tools import gradescope, release
from tools.cli import main
from tools.gradescope import build_gradescope_zip

QUICK_TASKS = {"1.2", "2.2", "2.3", "2.4"}  # so that a grading takes seconds, the others are given
# What Gradescope documents, and nothing else.
TOP = {"score", "execution_time", "output", "output_format", "test_output_format", "test_name_format", "visibility",
       "stdout_visibility", "extra_data", "tests", "leaderboard"}  # fmt: skip
TEST = {"score", "max_score", "status", "name", "number", "output", "visibility"}
METADATA = {
    "id": 7,
    "created_at": "2026-03-01T12:00:00.000000-05:00",
    "users": [{"email": "ann@x.example", "id": 1, "name": "A"}, {"email": "bob@x.example", "id": 2, "name": "B"}],
}


@pytest.fixture(scope="session")
def autograder_zip(tmp_path_factory):
    return build_gradescope_zip(tmp_path_factory.mktemp("zip") / "autograder.zip")


def test_zip_holds_no_copies_that_an_editor_has_left(tmp_path, monkeypatch):
    for name in ("a.py", ".ipynb_checkpoints/a-checkpoint.py"):
        (tmp_path / "autograder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "autograder" / name).write_text("")
    monkeypatch.setattr(gradescope, "ROOT", tmp_path)
    monkeypatch.setattr(gradescope, "FILES", [("autograder", ("**/*.py",))])
    assert [name for name in gradescope.autograder_files() if name.endswith(".py")] == ["autograder/a.py"]


@pytest.fixture
def layout(autograder_zip, tmp_path):
    """/autograder as Gradescope lays it out, the kit unpacked, all but four tasks given; no submission yet."""
    root = unpack(autograder_zip, tmp_path / "autograder")
    leave_to_solve(root, QUICK_TASKS)
    (root / "submission_metadata.json").write_text(json.dumps(METADATA))
    return root


def unpack(path, root):
    """Lay an autograder zip out under `root` as Gradescope does, and return `root`."""
    for name in ("source", "submission", "results"):
        (root / name).mkdir(parents=True)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(root / "source")
    shutil.copy(root / "source" / "run_autograder", root)
    return root


def leave_to_solve(root, ids):
    """Make all tasks given but those named."""
    table = root / "source" / "solutions" / "tasks.toml"
    head, *tasks = re.split(r"(?=^\[\[task\]\]$)", table.read_text(), flags=re.MULTILINE)
    for i, text in enumerate(tasks):
        given = "" if re.search(r'^id = "(.*)"$', text, re.MULTILINE)[1] in ids else "\ngiven = true"
        tasks[i] = text.replace("\ngiven = true", "").replace("\npoints =", f"{given}\npoints =", 1)
    table.write_text("".join([head, *tasks]))


def hand_in(root, old="", new=""):
    """Put the solutions' two files into the submission, loose, as a student who uploads them without a zip."""
    for name in FILES:
        text = (ROOT / "solutions" / name).read_text()
        (root / "submission" / name).write_text(text.replace(old, new) if old else text)
    (root / "submission" / "notes.txt").write_text("I liked it.")


def run_autograder(root, **environment):
    environment = {**os.environ, "AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": sys.executable, **environment}
    environment.pop("PYTHONPATH", None)  # the container knows the zip alone
    script = [shutil.which("bash"), str(root / "run_autograder")]
    done = subprocess.run(script, env=environment, cwd=root, capture_output=True, text=True, timeout=300)
    return json.loads((root / "results" / "results.json").read_text(), parse_constant=pytest.fail), done


def require_schema(results):
    assert set(results) <= TOP
    assert "tests" in results or "score" in results
    for test in results.get("tests", []):
        assert set(test) == TEST
        assert test["status"] in ("passed", "failed")
        assert test["visibility"] in ("visible", "hidden", "after_due_date", "after_published")
        assert 0 <= test["score"] <= test["max_score"]
    numbers = [test["number"] for test in results.get("tests", [])]
    assert len(numbers) == len(set(numbers))


def test_container_without_namespaces_grades_loose_files_and_says_how_weakly(layout, tmp_path):
    refusing = tmp_path / "bin" / "bwrap"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    levels = layout / "source" / "autograder" / "levels.py"
    text = levels.read_text()
    assert '"PATH": "/usr/bin:/bin"' in text
    levels.write_text(text.replace('"PATH": "', f'"PATH": "{refusing.parent}:'))
    hand_in(layout, "(deltas.clamp(min=0) * stride)", "(deltas * stride)")

    decided, stop = [], threading.Event()  # how many tests results.json had decided, whenever somebody looked

    def look():
        while not stop.wait(0.02):
            path = layout / "results" / "results.json"
            if path.is_file() and (text := path.read_text()):  # always whole, or it is no JSON
                tests = json.loads(text).get("tests", [])
                decided.append(sum(test["output"] != "not run yet" for test in tests))

    onlooker = threading.Thread(target=look)
    onlooker.start()
    try:
        results, done = run_autograder(layout)
    finally:
        stop.set()
        onlooker.join()
    require_schema(results)
    assert decided == sorted(decided)
    assert len(set(decided)) > 2

    assert results["extra_data"]["isolation"] in ("uid", "process")
    assert "No permissions to create a new namespace" in results["extra_data"]["isolation_warning"]
    assert "No permissions to create a new namespace" in done.stdout  # for the staff; students see no more than this:
    assert results["output"].startswith(f"isolation: {results['extra_data']['isolation']} (weaker than wanted)")
    assert "notes.txt" in results["output"]
    assert results["extra_data"]["students"] == ["ann@x.example", "bob@x.example"]

    table = load_tasks(layout / "source" / "solutions" / "tasks.toml")
    parts = [(f"{task.id}.{i}", part) for task in table.graded for i, part in enumerate(task.parts, start=1)]
    assert {task.id for task in table.graded} == QUICK_TASKS
    for test, (number, part) in zip(results["tests"], parts, strict=True):
        assert (test["number"], test["max_score"]) == (number, part.points)
        assert test["visibility"] == ("after_published" if part.hidden else "visible")
        lost = number.startswith("2.3.") and part.id in ("negative", "mixed")
        assert test["score"] == (0 if lost else part.points), test
        assert test["status"] == ("failed" if lost else "passed")
        assert lost == ("Negative deltas must count as 0" in test["output"])
    assert sum(part.points for _, part in parts) == 100


def test_time_limit_leaves_results_that_say_what_was_not_run(layout):
    settings = {"minutes": 0.2, "hidden": "visible"}
    (layout / "source" / "gradescope.json").write_text(json.dumps(settings))
    hand_in(layout, "import torch\n", "while True: pass\n")
    results, _ = run_autograder(layout)
    require_schema(results)
    assert len(results["tests"]) == 13
    assert sum(test["score"] for test in results["tests"]) == 0
    assert "not run: time is over" in results["tests"][-1]["output"]


def test_autograder_that_cannot_start_leaves_a_result_that_students_see(layout):
    hand_in(layout)
    results, _ = run_autograder(layout, AUTOGRADER_PYTHON="/nowhere/python")
    require_schema(results)
    assert results["score"] == 0
    assert "no fault of yours" in results["output"]


def play(tmp_path, *lines, minutes=10):
    """Run the container's main with a grader that is a few lines of Python."""
    (tmp_path / "settings.json").write_text(json.dumps({"minutes": minutes, "hidden": "hidden"}))
    script = "\n".join(["import json, os, signal, sys, time", *lines])
    threads = threading.active_count()
    assert container.main([str(tmp_path)], (sys.executable, "-c", script), tmp_path / "settings.json") == 0
    assert threading.active_count() == threads  # one left over would keep the container waiting
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    require_schema(results)
    return results


@pytest.fixture
def half():
    """A line that reports a grading on the way: one part passed, all others undecided."""
    results = refused_results(NOT_RUN)
    results["notes"] = []
    part = results["tasks"][0]["parts"][0]
    part |= {"points": part["max_points"], "status": "passed", "message": ""}
    return f"print({json.dumps(json.dumps({'results': results}))}, flush=True)"


# What becomes of the grader after its first report -> what the other tests say.
ENDS = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "too little memory"),
    "killed while it writes": (
        """os.write(1, b'{"results": {"total": 12, "ta'); os.kill(os.getpid(), signal.SIGKILL)""",
        "too little memory",
    ),
    "ended": ("sys.exit(3)", "the grader ended with code 3"),
    "hanging": ("time.sleep(600)", "not run: time is over"),
}


@pytest.mark.parametrize("how", ENDS)
def test_points_stay_when_the_grader_ends_early(how, half, tmp_path):
    act, message = ENDS[how]
    results = play(tmp_path, half, act, minutes=0.05 if how == "hanging" else 10)
    first, *others = results["tests"]
    assert first["score"] == first["max_score"] > 0
    assert {test["score"] for test in others} == {0}
    assert all(message in test["output"] for test in others)
    assert {test["visibility"] for test in results["tests"]} == {"visible", "hidden"}


@pytest.mark.parametrize("act", ["print(json.dumps({'error': 'the reference is missing'}))", "print('{}', flush=True)"])
def test_broken_kit_gives_a_result_that_students_see(act, half, tmp_path):
    results = play(tmp_path, half, act)
    assert results["score"] == 0
    assert "tests" not in results  # no grade from a kit that is broken
    assert "no fault of yours" in results["output"]
    if "error" in act:
        assert "the reference is missing" in results["output"]


def test_results_are_never_nan(tmp_path):
    results = refused_results("too big")
    results["tasks"][0]["points"] = float("nan")
    results["tasks"][0]["parts"][0]["points"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path / "results.json", results_json(results, "visible", 1.0))
    assert not (tmp_path / "results.json").exists()


def test_leaderboard_shows_finite_figures_that_were_measured():
    results = refused_results("too big")
    assert results_json(results, "visible", 1.0)["leaderboard"] == []
    results["measures"] = {"mAP": 0.43217, "loss": float("nan")}
    assert results_json(results, "visible", 1.0)["leaderboard"] == [{"name": "mAP", "value": 0.4322, "order": "desc"}]


def test_probe_gets_the_memory_that_two_processes_leave(tmp_path, monkeypatch):
    # 768 MiB, of which the grader and its worker take 220 each and 96 are kept.
    assert memory_for_probe(768 << 20, 220 << 20) == 232 << 20
    assert memory_for_probe(768 << 20, 400 << 20) == LEAST
    unlimited, limited = tmp_path / "max", tmp_path / "bytes"
    unlimited.write_text("max\n")
    limited.write_text(f"{768 << 20}\n")
    assert container_memory((tmp_path / "none", unlimited)) is None
    assert container_memory((unlimited, limited)) == 768 << 20
    table = load_tasks()
    monkeypatch.setattr(grading, "own_memory", lambda: 220 << 20)
    for size, gib in ((None, 4), (64 << 30, 4), (768 << 20, 0.23)):
        monkeypatch.setattr(grading, "container_memory", lambda size=size: size)
        assert grading.table_for_container(table).memory_gib == gib
    assert grading.table_for_container(table).digest == table.digest


def test_zip_is_the_same_to_the_byte_and_holds_what_gradescope_runs(autograder_zip, tmp_path):
    time.sleep(1.1)  # another second: a time in the zip would show
    assert build_gradescope_zip(tmp_path / "again.zip").read_bytes() == autograder_zip.read_bytes()
    with zipfile.ZipFile(autograder_zip) as archive:
        names = archive.namelist()
        scripts = {name: archive.read(name) for name in ("setup.sh", "run_autograder")}
        modes = {name: stat.filemode(archive.getinfo(name).external_attr >> 16) for name in names}
    assert names == sorted(names)
    for name, text in scripts.items():
        assert modes.pop(name) == "-rwxr-xr-x"
        assert text.startswith(b"#!/usr/bin/env bash\n")
        assert b"\r" not in text
        assert b"@" not in text.replace(b'"$@"', b"")  # every placeholder is filled
        assert subprocess.run(["bash", "-n"], input=text, check=False).returncode == 0
    assert set(modes.values()) == {"-rw-r--r--"}
    assert {name.partition("/")[0] for name in names} == {
        "LICENSE", "autograder", "gradescope.json", "helpers", "requirements.txt", "run_autograder", "setup.sh",
        "solutions",
    }  # fmt: skip


def test_index_stands_in_setup(tmp_path):
    path = build_gradescope_zip(tmp_path / "a.zip", index="https://wheels.x.example/cpu")
    with zipfile.ZipFile(path) as archive:
        line = next(line for line in archive.read("setup.sh").decode().splitlines() if "requirements" in line)
    assert "--no-cache-dir --extra-index-url 'https://wheels.x.example/cpu' -r" in line


def test_setup_installs_what_the_kit_pins_and_stops_at_an_error(layout, tmp_path):
    """With stand-ins for the programs that need a network: each writes down how it was called."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    python = f'#!/bin/sh\necho "python $*" >> {log}\n'
    venv = 'if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi\n'
    for name, text in {"apt-get": f'#!/bin/sh\necho "apt-get $1" >> {log}\n', "python3": python + venv}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "AUTOGRADER_ROOT": str(layout)}
    script = ["bash", str(layout / "source" / "setup.sh")]
    assert subprocess.run(script, env=environment, check=False).returncode == 0
    install = f"python -m pip install --no-cache-dir -r {layout}/source/requirements.txt"
    expected = ["apt-get update", "apt-get install", f"python -m venv {layout}/venv", install]
    assert log.read_text().splitlines() == [*expected, "python -c import torch, torchvision"]
    (programs / "apt-get").write_text("#!/bin/sh\nexit 3\n")
    assert subprocess.run(script, env=environment, check=False).returncode == 3


BAD_INPUT = [
    (["--minutes", "60", "--out", "{}/a.zip"], "1 to 40"),
    (["--out", "{}"], "not the name of a zip"),
    (["--out", "{}/kept.txt"], "not the name of a zip"),
    (["--out", "{}/no/a.zip"], "does not exist"),
    (["--index", "https://x.example/'; rm", "--out", "{}/a.zip"], "the address of an index"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, tmp_path, capsys):
    (tmp_path / "kept.txt").write_text("mine")
    assert main(["gradescope", *(text.format(tmp_path) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in Path(tmp_path).iterdir()] == ["kept.txt"]
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_only_an_autograder_of_the_kit_is_overwritten(tmp_path, capsys):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thesis.tex", "years of work")
    for content in (path.read_bytes(), b"no zip at all"):
        path.write_bytes(content)
        assert main(["gradescope", "--out", str(path)]) == 2
        assert "a.zip: exists, and is no autograder of the kit" in capsys.readouterr().err
        assert path.read_bytes() == content
    path.unlink()
    for minutes in ("10", "20"):
        assert main(["gradescope", "--out", str(path), "--minutes", minutes]) == 0
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("gradescope.json"))["minutes"] == 20
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_default_name_is_none_of_a_release():
    parser = argparse.ArgumentParser()
    gradescope.configure(parser)
    assert parser.parse_args([]).out.name not in (release.STUDENT_ZIP, release.NBGRADER_ZIP, release.GRADESCOPE_ZIP)


def test_held_out_images_in_the_zip_are_what_detectors_are_measured_on(tmp_path):
    """An autograder with the task switched on, run on a submission whose detector is wrong and one without weights."""
    voc = make_sample(tmp_path / "voc", train=1, val=6)
    chosen = HeldOut(str(voc), "val", 4)
    path = build_gradescope_zip(tmp_path / "measuring.zip", held_out=chosen)
    root = unpack(path, tmp_path / "autograder")
    packed = grading.images_of_the_zip(root / "source")
    assert described(packed)["sha256"] == described(chosen)["sha256"]
    assert grading.images_of_the_zip.__defaults__ == (ROOT,)

    leave_to_solve(root, {"1.2", "5.1"})
    hand_in(root)
    results, _ = run_autograder(root)
    require_schema(results)
    outputs = {test["number"]: test["output"] for test in results["tests"]}
    assert set(outputs) == {"1.2.1", "1.2.2", "5.1.1", "5.1.2", "5.1.3"}
    assert outputs["5.1.1"].startswith("mAP of 22 % or more: fcos_detector.pt is missing")
    assert results["leaderboard"] == []

    code = """
class FCOS(nn.Module):
    def __init__(self, num_classes, fpn_channels, stem_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images, gt_boxes=None, test_score_thresh=None, test_nms_thresh=None):
        return torch.zeros(1, 4), torch.zeros(1), torch.ones(1)
"""
    with (root / "submission" / "one_stage_detector.py").open("a") as file:
        file.write(code)
    torch.save({"weight": torch.zeros(1)}, root / "submission" / "fcos_detector.pt")
    results, _ = run_autograder(root)
    assert results["leaderboard"] == [{"name": "mAP", "value": 0.0, "order": "desc"}]
    assert "mAP is 0.00%, 22 % are asked for" in {t["number"]: t["output"] for t in results["tests"]}["5.1.1"]
    shown = json.dumps(results)
    assert not any(path.stem in shown for path in (voc / "VOCdevkit").rglob("*.jpg"))  # nothing about an image


def test_few_images_are_taken_unless_more_are_named(autograder_zip, tmp_path, monkeypatch):
    voc, seen = make_sample(tmp_path / "voc", train=1, val=2), []
    monkeypatch.setattr(gradescope, "build_gradescope_zip", lambda *given: seen.append(given[-1]) or autograder_zip)
    for options in ([], ["--images", "300"]):
        assert main(["gradescope", "--weights", "--held-out", str(voc), *options]) == 0
    assert seen == [HeldOut(str(voc), "val", 100), HeldOut(str(voc), "val", 300)]


def test_zip_without_the_images_that_a_task_needs_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tools.gradescope.load_tasks", lambda: load_tasks(given={"5.1": False}))
    assert main(["gradescope", "--out", str(tmp_path / "x.zip")]) == 2
    assert "task 5.1 measures trained detectors on held-out images" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
