"""`kit grade-class` from the command line: with real graders on one cheap task, and with fakes for Ctrl-C."""

import functools
import json
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from fake_grader import fake_grade, make_class

from autograder.batch import grade_class
from autograder.held_out import HeldOut, described
from autograder.tasks import FILES, ROOT
from helpers.sample import make_sample
from tools import grade_class as command
from tools.cli import main

CHEAP = ["--task", "1.2", "--isolation", "process"]
# Ends its probe, the process that forked the probe, and whatever listens to it.
DESTROYER = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos._exit(0)\n"


@pytest.fixture
def faked(monkeypatch):
    monkeypatch.setattr(command, "grade_class", functools.partial(grade_class, grade=fake_grade))


@pytest.fixture
def small_class(tmp_path):
    """A destroyer, an honest submission, and a file that is no archive."""
    folder = tmp_path / "class"
    (folder / "a_destroyer").mkdir(parents=True)
    for name in FILES:
        (folder / "a_destroyer" / name).write_text(DESTROYER)
    shutil.make_archive(str(folder / "Doe_Jane_123456_assignment"), "zip", ROOT / "solutions")
    (folder / "Roe_Jim_LATE_222222_hw.zip").write_text("not a zip")
    return folder


def tree(folder) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_class_killed_and_resumed_gives_what_the_quiet_run_gives(small_class, tmp_path, capsys):
    quiet, out = tmp_path / "quiet", tmp_path / "out"
    assert main(["grade-class", str(small_class), "--out", str(quiet), "--jobs", "2", *CHEAP]) == 0
    printed = capsys.readouterr().out
    assert "3/3 " in printed
    assert "3 of 3 graded   mean 2/6   median 0   isolation: process (2)" in printed
    assert "refused: Roe_Jim_LATE_222222_hw.zip: neither a folder nor a zip, tar or tar.gz" in printed
    results = {path.stem: json.loads(path.read_text()) for path in (quiet / "results").glob("*.json")}
    assert {name: one["total"] for name, one in results.items()} == {"a_destroyer": 0, "123456": 6, "222222": 0}
    assert results["222222"]["late"] is True
    assert all([task["id"] for task in one["tasks"]] == ["1.2"] for one in results.values())

    arguments = [
        sys.executable,
        "-m",
        "tools.cli",
        "grade-class",
        str(small_class),
        "--out",
        str(out),
        "--jobs",
        "1",
        *CHEAP,
    ]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not list((out / "results").glob("*.json")):
        time.sleep(0.01)
        assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert main(["grade-class", str(small_class), "--out", str(out), "--resume", *CHEAP]) == 0
    assert tree(out) == tree(quiet)
    assert psutil.wait_procs(children, timeout=60)[1] == []


# What a submission says when task 1.2 is graded. The first would close the text in which it stands, and go on with
# rows of its own, if results were cleaned as one text; the second is honest, and would end the grader.
FORGED = """
mark = '//kit-submission-a"'
row = "{'id': '1.2', 'title': '', 'points': 6, 'max_points': 6, 'status': 'passed', 'message': '', 'parts': []}"
text = "x '}], 'total': 6, 'max_total': 6, 'id': 'bob', 'tasks': [" + row + "], 'zz': [{'y': '"
raise ValueError(text.replace("'", mark))
"""
QUOTING = """
import os
raise FileNotFoundError('no "' + os.path.dirname(__file__) + '" here')
"""


def test_what_a_submission_says_changes_nobodys_results(tmp_path, capsys):
    folder, out = tmp_path / "class", tmp_path / "out"
    for student, code in {"bob": "", "mallory": FORGED, "quoting": QUOTING}.items():
        shutil.copytree(ROOT / "solutions", folder / student, ignore=shutil.ignore_patterns("__pycache__"))
        with (folder / student / "common.py").open("a") as file:
            body = "".join(f"    {line}\n" for line in code.splitlines())
            file.write(f"\n\ndef get_fpn_location_coords(*args, **kwargs):\n{body}" if code else "")
    assert main(["grade-class", str(folder), "--out", str(out), "--jobs", "1", *CHEAP]) == 0
    results = {path.stem: json.loads(path.read_text()) for path in (out / "results").glob("*.json")}
    found = {name: (one["id"], one["total"], one["tasks"][0]["points"]) for name, one in results.items()}
    assert found == {"bob": ("bob", 6, 6), "mallory": ("mallory", 0, 0), "quoting": ("quoting", 0, 0)}
    assert all(set(one) == set(results["bob"]) for one in results.values())
    assert 'FileNotFoundError: no "" here' in results["quoting"]["tasks"][0]["message"]
    assert "3 of 3 graded   mean 2/6" in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path):
    folder = make_class(tmp_path / "class", {f"s{i:03}": 3 for i in range(500)})
    code = f"""
import functools, sys
sys.path.insert(0, {str(ROOT / "tests" / "batch")!r})
from fake_grader import fake_grade
from autograder.batch import grade_class
from autograder.held_out import HeldOut, described
from tools import cli, grade_class as command
command.grade_class = functools.partial(grade_class, grade=fake_grade)
sys.exit(cli.main(["grade-class", {str(folder)!r}, "--out", {str(tmp_path / "out")!r}, "--task", "1.2", "--jobs", "2"]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(list((tmp_path / "out").glob("results/*.json"))) < 5:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    assert errors == b""
    assert b"stopped; go on with: kit grade-class" in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    done = len(list((tmp_path / "out" / "results").glob("*.json")))
    assert summary["complete"] is False
    assert 5 <= summary["graded"] == done < 500


def test_submission_without_a_result_makes_exit_code_1(tmp_path, faked, capsys):
    folder = make_class(tmp_path / "class", {"a": 3, "b[red]": "die"})
    assert main(["grade-class", str(folder), "--out", str(tmp_path / "out"), "--task", "1.2"]) == 1
    printed = capsys.readouterr().out
    assert "the grader ended: Killed" in printed
    assert "1 of 2 graded" in printed


def test_results_go_beside_the_class_by_default_and_are_no_submission(tmp_path, faked, monkeypatch):
    folder = make_class(tmp_path / "class", {"a": 3})
    monkeypatch.chdir(tmp_path)
    assert main(["grade-class", "class", "--task", "1.2"]) == 0
    assert (tmp_path / "class-results" / "summary.csv").is_file()
    assert main(["grade-class", str(folder), "--task", "1.2", "--out", str(folder / "results")]) == 0
    assert main(["grade-class", str(folder), "--task", "1.2", "--out", str(folder / "results"), "--resume"]) == 0
    assert (folder / "results" / "results" / "a.json").is_file()
    assert len(list((folder / "results" / "results").iterdir())) == 1


def test_resume_with_a_stronger_isolation_says_what_it_grades_again(tmp_path, monkeypatch, capsys):
    level = "process"

    def grade(job):
        return fake_grade(job) | {"isolation": level}

    monkeypatch.setattr(command, "grade_class", functools.partial(grade_class, grade=grade))
    monkeypatch.setattr(command, "choose_level", lambda wanted: (wanted, ""))
    arguments = ["grade-class", str(make_class(tmp_path / "class", {"a": 3, "b": 4})), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--task", "1.2"]) == 0
    said = "earlier results that do not count, of a weaker isolation than bubblewrap: 2"
    assert said not in capsys.readouterr().out
    level = "bubblewrap"
    for expected in (True, False):
        assert main([*arguments, "--task", "1.2", "--resume", "--isolation", "bubblewrap"]) == 0
        printed = capsys.readouterr().out
        assert (said in printed) is expected
        assert "isolation: bubblewrap (2)" in printed


def test_detectors_are_measured_and_the_images_of_the_report_lie_beside_the_results(tmp_path, monkeypatch, capsys):
    held_out = HeldOut(str(make_sample(tmp_path / "voc", train=1, val=5)), images=4)
    measured = {"held_out": described(held_out), "measures": {"mAP": 0.25}, "pictures": {}}
    jobs = []

    def grade(job):
        jobs.append(job)
        return fake_grade(job) | measured

    monkeypatch.setattr(command, "grade_class", functools.partial(grade_class, grade=grade))
    arguments = ["grade-class", str(make_class(tmp_path / "class", {"a": 3})), "--out", str(tmp_path / "out")]
    options = ["--weights", "--held-out", held_out.root, "--images", "4"]
    assert main([*arguments, *CHEAP, *options]) == 0
    assert "mAP of 1 trained detectors: mean 25.0%, best 25.0%" in capsys.readouterr().out
    assert jobs[0].held_out == held_out
    pictures = json.loads((tmp_path / "out" / "held-out.json").read_text())
    assert pictures["sha256"] == measured["held_out"]["sha256"]
    assert [len(one["truth"]) > 0 for one in pictures["pictures"]] == [True] * 4
    assert "mAP" in (tmp_path / "out" / "summary.csv").read_text().splitlines()[0]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["results"][0]["mAP"] == 0.25
    assert main([*arguments, *CHEAP, *options, "--resume"]) == 0
    assert len(jobs) == 1
    assert main([*arguments, *CHEAP, "--weights", "--held-out", held_out.root, "--images", "3", "--resume"]) == 2
    assert main([*arguments, *CHEAP, "--resume"]) == 2


BAD_INPUT = [
    (["{root}/nowhere"], "nowhere: no such folder"),
    (["{root}/empty"], "holds no submission"),
    (["{root}/class/a/common.py"], "not a folder"),
    (["{root}/class/a"], "this is one submission, not a class; use: kit grade"),
    (["{root}/class", "--out", "{root}/class/a/common.py/out"], "results cannot be written there"),
    (["{root}/class", "--out", "{root}/other", "--resume"], "another table of tasks"),
    (["{root}/class", "--out", "{root}/other"], "go on with --resume"),
    (["{root}/class", "--task", "9.9"], "no task '9.9'"),
    (["{root}/class", "--task", "2.5"], "task 2.5 is not graded"),
    (["{root}/class", "--jobs", "0"], "--jobs 0: at least 1"),
    (["{root}/class", "--dask", "tcp://127.0.0.1:1"], "no scheduler answers there"),
    (["{root}/class", "--dask", "nonsense://x"], "no scheduler answers there"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tools.cluster._CONNECT_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    make_class(tmp_path / "class", {"a": 3})
    (tmp_path / "empty").mkdir()
    other = {"tasks_sha256": "0", "tasks": [], "public_only": False}
    (tmp_path / "other" / "results").mkdir(parents=True)
    (tmp_path / "other" / "results" / "a.json").write_text(json.dumps(other))
    assert main(["grade-class", *(text.format(root=tmp_path) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
