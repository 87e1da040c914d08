"""`kit grade`: the solutions, the skeleton, typical mistakes, broken files, and the results file."""

import io
import json
import subprocess
import sys
import zipfile

import pytest
import torch
from rich.console import Console

from autograder.errors import KitError
from autograder.grade import grade, grading_session
from autograder.report import print_results
from autograder.tasks import FILES, ROOT, load_tasks
from tools.cli import main

COMMON, DETECTOR = FILES
FUNCTION_TASKS = {task.id for task in load_tasks().graded} - {"3.2"}

# Ten mistakes that students make (contract: "Mistakes seen in practice"): task, file, right text, wrong text.
MISTAKES = {
    "locations are (row, column)": ("1.2", COMMON, "torch.stack([grid_x, grid_y]", "torch.stack([grid_y, grid_x]"),
    "view without permute in the head": (
        "2.1",
        DETECTOR,
        "self.pred_cls(class_feats).flatten(2).transpose(1, 2)",
        "self.pred_cls(class_feats).reshape(len(feats), -1, self.pred_cls.out_channels)",
    ),
    "deltas with turned signs": ("2.2", DETECTOR, "x - x1, y - y1, x2 - x, y2 - y], dim=-1) / stride",
                                 "x1 - x, y1 - y, x - x2, y - y2], dim=-1) / stride"),
    "negative deltas not clipped": ("2.3", DETECTOR, "(deltas.clamp(min=0) * stride)", "(deltas * stride)"),
    "no square root in centerness": ("2.4", DETECTOR, ".clamp(min=0).sqrt().masked_fill", ".clamp(min=0).masked_fill"),
    "0.25 missing in the box loss": ("3.1", DETECTOR, "0.25 * F.l1_loss", "F.l1_loss"),
    "normaliser never updated": ("3.1", DETECTOR, "self._normalizer = 0.9 * self", "_ = 0.9 * self"),
    "NMS keeps everything": ("4.1", COMMON, "rest[~(iou > iou_threshold)]", "rest"),
    "x clipped by the height": ("4.2", DETECTOR, "[width, height, width, height]", "[height, width, height, width]"),
    "top-down pathway missing": ("1.1", COMMON, "lateral4 + F.interpolate(merged5, size=lateral4.shape[-2:]",
                                 "lateral4 + 0 * F.interpolate(merged5, size=lateral4.shape[-2:]"),
}  # fmt: skip


def points(results):
    return {task["id"]: task["points"] for task in results["tasks"]}


def test_solutions_get_all_points(worker):
    results = grade(ROOT / "solutions", worker=worker)
    assert [task["message"] for task in results["tasks"] if task["message"]] == []
    assert (results["total"], results["max_total"]) == (100, 100)


def test_skeleton_gets_nothing_and_is_told_so(worker):
    results = grade(ROOT / "assignment", worker=worker)
    assert results["total"] == 0
    assert {task["status"] for task in results["tasks"]} == {"not implemented"}
    assert all("not implemented yet" in task["message"] for task in results["tasks"])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_costs_its_own_task_only(mistake, spoil, worker):
    task_id, name, right, wrong = MISTAKES[mistake]
    folder = spoil(name, right, wrong)
    results = grade(folder, tasks=FUNCTION_TASKS, worker=worker)
    full = {task.id: task.points for task in load_tasks().graded}
    lost = {other for other, value in points(results).items() if value < full[other]}
    assert lost == {task_id}


def test_syntax_error_in_one_file_leaves_the_other_files_tasks(spoil, worker):
    folder = spoil(COMMON, "    areas = ", "    areas == = ")
    results = grade(folder, tasks=FUNCTION_TASKS, worker=worker)
    for task in load_tasks().graded:
        if task.id == "3.2":
            continue
        expected = 0 if task.file == COMMON else task.points
        assert points(results)[task.id] == expected, task.id
    message = next(task["message"] for task in results["tasks"] if task["id"] == "4.1")
    assert "SyntaxError" in message
    assert "common.py:" in message


def test_missing_file_is_said_for_its_tasks(solution_copy, worker):
    (solution_copy / DETECTOR).unlink()
    results = grade(solution_copy, tasks={"1.2", "2.2"}, worker=worker)
    assert points(results) == {"1.2": 6, "2.2": 0}
    assert "one_stage_detector.py is missing" in results["tasks"][1]["message"]


def test_missing_function_is_said_for_its_task(spoil, worker):
    folder = spoil(DETECTOR, "def fcos_make_centerness_targets", "def fcos_centerness")
    results = grade(folder, tasks={"2.3", "2.4"}, worker=worker)
    assert points(results) == {"2.3": 6, "2.4": 0}
    assert "fcos_make_centerness_targets is not defined" in results["tasks"][1]["message"]


def test_exception_at_import_names_the_line(spoil, worker):
    folder = spoil(DETECTOR, "import math\n", "import math\nraise ValueError('no luck')\n")
    line = (folder / DETECTOR).read_text().splitlines().index("raise ValueError('no luck')") + 1
    results = grade(folder, tasks={"1.2", "2.2"}, worker=worker)
    assert points(results) == {"1.2": 6, "2.2": 0}
    assert f"ValueError: no luck (one_stage_detector.py:{line})" in results["tasks"][1]["message"]


def test_endless_loop_is_stopped_and_the_rest_is_graded(spoil, worker, tmp_path):
    table = tmp_path / "tasks.toml"
    table.write_text((ROOT / "solutions" / "tasks.toml").read_text().replace("seconds = 20\n", "seconds = 1\n"))
    folder = spoil(DETECTOR, "    x, y = locations.unbind(dim=-1)\n    x1, y1", "    while True: pass\n    x1, y1")
    results = grade(folder, load_tasks(table), tasks={"2.2", "2.3"}, worker=worker)
    assert points(results) == {"2.2": 0, "2.3": 6}
    assert "stopped after 1 s" in results["tasks"][0]["message"]


def test_hidden_tests_name_the_behaviour_and_no_value(spoil, worker):
    folder = spoil(DETECTOR, "[width, height, width, height]", "[height, width, height, width]")
    task = grade(folder, tasks={"4.2"}, worker=worker)["tasks"][0]
    assert task["message"].startswith("boxes clipped to an off-square image: wrong values in boxes")
    assert "expected" not in task["message"]


SUBMISSION_OF_THE_ORIGINAL = """
import torch
from a4_helper import *
from eecs598.utils import reset_seed
from torchvision import models
from torchvision.models import feature_extraction
print("loading my backbone")
"""


def test_submission_of_the_original_assignment_is_graded(spoil, worker):
    spoil(COMMON, '"""Parts that any', SUBMISSION_OF_THE_ORIGINAL + '"""Parts that any')
    folder = spoil(COMMON, "load_backbone(backbone, weights), return", "models.regnet_x_400mf(pretrained=True), return")
    results = grade(folder, tasks=FUNCTION_TASKS, worker=worker)
    assert results["total"] == results["max_total"] == 94


def test_zip_one_folder_down_is_graded(solution_copy, tmp_path, worker):
    archive = tmp_path / "hand-in.zip"
    with zipfile.ZipFile(archive, "w") as stored:
        for name in FILES:
            stored.write(solution_copy / name, f"my work/{name}")
    assert grade(archive, tasks={"1.2", "2.4"}, worker=worker)["total"] == 12


def test_python_m_pytest_grades_too(solution_copy):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "autograder", "--submission", str(solution_copy), "-q", "-k", "locations",
         "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


def test_command_writes_every_expected_task(spoil, tmp_path, capsys):
    folder = spoil(DETECTOR, "import math\n", "import math, os\nos._exit(0)\n")
    output, page = tmp_path / "results.json", tmp_path / "results.html"
    assert main(["grade", str(folder), "--json", str(output), "--html", str(page), "--public-only"]) == 0
    results = json.loads(output.read_text())
    assert [task["id"] for task in results["tasks"]] == [task.id for task in load_tasks().graded]
    assert {task["id"]: task["status"] for task in results["tasks"]}["3.2"] == "not graded"
    for task in results["tasks"]:
        assert {"id", "title", "points", "max_points", "status", "message"} <= set(task)
    assert {"total", "max_total", "isolation"} <= set(results)
    printed = capsys.readouterr().out
    assert "ended the program" in printed
    assert "ended the program without an answer" in page.read_text()


def part(title, message, status="failed", hidden=False):
    points = 2 if status == "passed" else 0
    return {"title": title, "points": points, "max_points": 2, "status": status, "message": message, "hidden": hidden}


# Parts of task 9.1 -> lines at 80 columns below the table: every reason once, without what stands above it.
PRINTED_PARTS = {
    "one reason each": (
        [
            part("any size", 'Task 9.1, "Any size": wrong shape of x: expected (2,), received (3,)'),
            part("[red]signs", "[red]signs: wrong values in x. Negative numbers get lost on their way\n\x1b[31m"),
            part("zeros", "", "passed"),
        ],
        [
            "9.1 Toy",
            "  ✗ any size (0/2)",
            "      wrong shape of x: expected (2,), received (3,)",
            "  ✗ [red]signs (0/2)",
            "      wrong values in x. Negative numbers get lost on their way  [31m",
        ],
    ),
    "one reason for all": (
        [part("any size", 'Task 9.1, "Any size": not implemented yet'), part("signs", "signs: not implemented yet")],
        ["9.1 Toy", "  ✗ every part (0/4)", "      not implemented yet"],
    ),
    "nothing lost": ([part("any size", "", "passed")], []),
}


@pytest.mark.parametrize("name", PRINTED_PARTS)
def test_terminal_shows_the_reason_of_every_failing_part(name):
    parts, expected = PRINTED_PARTS[name]
    points, most = (sum(part[key] for part in parts) for key in ("points", "max_points"))
    row = {"id": "9.1", "title": "Toy", "status": "partial", "points": points, "max_points": most, "parts": parts}
    results = {"tasks": [row], "notes": [], "flags": [], "isolation_warning": "", "isolation": "process"}
    terminal = io.StringIO()
    print_results(results | {"total": points, "max_total": most}, Console(file=terminal, width=80, highlight=False))
    table, *reasons, _ = terminal.getvalue().rstrip("\n").split("\n\n")
    assert max(map(len, table.splitlines())) < 50
    assert [line.rstrip() for line in "\n".join(reasons).splitlines()] == expected


def test_kit_without_a_command_shows_what_there_is(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("usage: kit")
    assert "gradebook" in shown


BAD_INPUT = [
    (["grade", "nowhere"], "no such file or folder"),
    (["grade", "{empty}"], "holds neither common.py nor one_stage_detector.py"),
    (["grade", "{solutions}", "--task", "9.9"], "no task '9.9'"),
    (["grade", "{solutions}", "--task", "2.5"], "task 2.5 is not graded"),
    (["grade", "{solutions}", "--json", "{empty}/no/such/folder/r.json"], "does not exist"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    arguments = [text.format(empty=tmp_path, solutions=ROOT / "solutions") for text in arguments]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_broken_solution_is_the_kits_error_not_a_zero(solution_copy, worker, monkeypatch):
    monkeypatch.setattr("autograder.oracle.make_case", lambda *_: 1 / 0)
    with pytest.raises(KitError, match="the case locations_any cannot be made: ZeroDivisionError"):
        grade(solution_copy, tasks={"1.2"}, worker=worker)


def test_broken_reference_is_the_kits_error_not_a_zero(solution_copy, worker, tmp_path, monkeypatch):
    monkeypatch.setattr("autograder.plugin.FOLDER", tmp_path)
    with pytest.raises(KitError, match="the reference is missing"):
        grade(solution_copy, tasks={"1.2"}, worker=worker)


def test_grading_computes_on_one_thread_and_leaves_the_setting_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with grading_session(ROOT / "solutions", public_only=True):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
