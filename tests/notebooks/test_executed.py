"""The notebook runs top to bottom from a clean student copy: with the solutions, and with the empty skeletons."""

import re
import zipfile

import nbformat
import pytest
import torch
from student_copy import ROOT, execute, make_student_copy, pictures_of, text_of
from torchvision.models import RegNet_X_400MF_Weights, regnet_x_400mf

from autograder.tasks import load_tasks
from helpers import make_sample

# Cell -> what it must print with the solutions.
PRINTED = {
    "setup": [
        "Hello from common.py!",
        "Hello from one_stage_detector.py!",
        "Hello from the helpers!",
        "Assignment folder",
    ],
    "data": ["160 images to train on (16 in this run), 80 to validate", "image (3, 128, 128)"],
    "backbone-shapes": ["c3 (2, 32, 20, 28) stride 8", "c5 (2, 320, 5, 7) stride 32"],
    "fpn-shapes": ["p3 (2, 64, 20, 28) stride 8", "p5 (2, 64, 5, 7) stride 32"],
    # 2 rows and 3 columns at stride 8, row by row, x first
    "locations-by-hand": ["[ 4.,  4.]", "[12.,  4.]", "[20.,  4.]", "[ 4., 12.]"],
    "head-shapes": ["'p3': (2, 560, 20)", "probability of a class before training: 0.010"],
    "nms-compare": ["same order", "fine", "5000 boxes on cpu"],
    "submit": ["of Ada Example (ada01), opened again and complete", "the full run makes them (fcos_detector.pt)"],
}
# Cell -> number of pictures.
PICTURES = {
    "look": 1,
    "all-locations": 1,
    "levels": 1,
    "ambiguous": 1,
    "round-trip": 1,
    "centerness-map": 1,
    "overfit": 1,
    "train": 1,
    "decode": 1,
    "detections": 1,
    "map": 3,
}
STUDENT = {"FCOS_NAME": "Ada Example", "FCOS_STUDENT_ID": "ada01"}


def cells_by_id(notebook) -> dict:
    return {cell.id: cell for cell in notebook.cells}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, str]:
    """One folder for the sample images of both runs."""
    return {"FCOS_DATA": str(tmp_path_factory.mktemp("data"))}


@pytest.fixture(scope="module")
def solved(tmp_path_factory, data):
    """The folder and the executed notebook of a student who has solved everything."""
    folder = make_student_copy(tmp_path_factory.mktemp("solved") / "my fcos (1)", ROOT / "solutions")
    return folder, execute(folder / "one_stage_detector.ipynb", {**data, **STUDENT})


@pytest.fixture(scope="module")
def unsolved(tmp_path_factory, data):
    """The same of a student who has not begun."""
    folder = make_student_copy(tmp_path_factory.mktemp("unsolved") / "fcos", ROOT / "assignment")
    return folder, execute(folder / "one_stage_detector.ipynb", {**data, **STUDENT}, allow_errors=True)


@pytest.mark.timeout(900)
def test_solved_notebook_prints_what_it_promises(solved):
    cells = cells_by_id(solved[1])
    for cell_id, expected in PRINTED.items():
        text = text_of(cells[cell_id])
        for part in expected:
            assert part in text, f"{cell_id}: {part!r} is not in {text!r}"
    for bad in ("DIFFERENT", "NOT the same"):
        assert bad not in text_of(cells["nms-compare"])


@pytest.mark.timeout(900)
def test_solved_notebook_works_in_the_folder_that_it_lies_in(solved):
    folder, notebook = solved
    assert f"Assignment folder: {folder}" in text_of(cells_by_id(notebook)["setup"])


@pytest.mark.timeout(900)
def test_solved_notebook_passes_every_check(solved):
    cells = cells_by_id(solved[1])
    for task in load_tasks().graded:
        public = sum(part.points for part in task.parts if not part.hidden)
        text = text_of(cells["task-" + task.id.replace(".", "-")])
        assert (f"{public} of {public} points" if public else "has no public test") in text, text
        for sign in "✗◐…":
            assert sign not in text
    everything = sum(part.points for task in load_tasks().graded for part in task.parts if not part.hidden)
    assert f"{everything} of {everything} points" in text_of(cells["check-all"])


@pytest.mark.timeout(900)
def test_solved_notebook_shows_its_pictures(solved):
    assert {cell.id: pictures_of(cell) for cell in solved[1].cells if pictures_of(cell)} == PICTURES


@pytest.mark.timeout(900)
def test_solved_notebook_learns_its_images_by_heart(solved):
    cells = cells_by_id(solved[1])
    for cell_id in ("overfit", "train"):
        first, last = map(float, re.search(r"loss ([\d.]+) -> ([\d.]+)", text_of(cells[cell_id])).groups())
        assert last < 0.7 * first
    # 84 % were measured; a detector that has learned nothing has less than 1 %.
    assert float(re.search(r"mAP ([\d.]+) %", text_of(cells["map"])).group(1)) > 50


@pytest.mark.timeout(900)
def test_solved_notebook_leaves_a_zip_that_opens(solved):
    folder, _ = solved
    with zipfile.ZipFile(folder / "ada01_fcos.zip") as archive:
        assert archive.testzip() is None
        assert {"common.py", "one_stage_detector.py", "manifest.json"} <= set(archive.namelist())
        assert "fcos_detector.pt" not in archive.namelist()  # a quick run's weights are of no use to the grader
        assert archive.read("common.py") == (folder / "common.py").read_bytes()


@pytest.mark.timeout(900)
def test_unsolved_notebook_shows_no_traceback_but_what_is_to_be_written(unsolved):
    _, notebook = unsolved
    errors = [
        f"{cell.id}: {output.ename}: {output.evalue}"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    assert errors == []
    waiting = {cell.id: text_of(cell) for cell in notebook.cells if "still to be written" in text_of(cell)}
    assert {"fpn-shapes", "locations-by-hand", "head-shapes", "overfit", "train", "nms-compare", "map"} <= set(waiting)
    for text in waiting.values():
        assert re.search(r"Task \d\.\d: .* is still to be written \(\w+\.py, line \d+\)", text)


@pytest.mark.timeout(900)
def test_unsolved_notebook_says_in_every_check_what_is_missing(unsolved):
    cells = cells_by_id(unsolved[1])
    for task in load_tasks().graded:
        public = sum(part.points for part in task.parts if not part.hidden)
        text = text_of(cells["task-" + task.id.replace(".", "-")])
        assert (f"0 of {public} points" if public else "has no public test") in text
        assert not public or "not implemented" in text or "first: this task builds on it" in text, text


@pytest.mark.timeout(900)
def test_unsolved_notebook_can_still_be_handed_in(unsolved):
    text = text_of(cells_by_id(unsolved[1])["submit"])
    assert "opened again and complete" in text
    assert "There are no trained weights in it" in text


@pytest.mark.timeout(900)
def test_full_run_trains_resumes_and_evaluates_on_images_never_seen(tmp_path):
    folder = make_student_copy(tmp_path / "fcos", ROOT / "solutions")
    path = folder / "one_stage_detector.ipynb"
    notebook = nbformat.read(path, as_version=4)
    # The checks are the same in both runs.
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith("check")]
    nbformat.write(notebook, path)
    # Stands for weights that torchvision has downloaded before.
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(regnet_x_400mf(weights=None).state_dict(), cache / RegNet_X_400MF_Weights.DEFAULT.url.rsplit("/")[-1])
    environment = {
        "FCOS_QUICK": "0",
        "FCOS_MAX_ITERS": "2",
        "FCOS_VOC_ROOT": str(make_sample(tmp_path / "sample", train=16, val=8)),
        "FCOS_DATA": str(tmp_path / "data"),
        "TORCH_HOME": str(tmp_path / "torch"),
    }
    cells = cells_by_id(execute(path, {**STUDENT, **environment}))
    assert "16 images to train on (16 in this run), 8 to validate" in text_of(cells["data"])
    assert "Going on from" not in text_of(cells["train"])
    assert "on 8 images never seen" in text_of(cells["map"])
    assert (tmp_path / "data" / "cache").is_dir()
    # After a disconnect, as the text says: sections 0 and 1, then the cell; and what comes after it, without the rest.
    section_2 = next(n for n, cell in enumerate(notebook.cells) if cell.source.startswith("## 2. "))
    later = ("train", "decode", "detections", "map")
    notebook.cells = [*notebook.cells[:section_2], *(cell for cell in notebook.cells if cell.id in later)]
    nbformat.write(notebook, path)
    again = cells_by_id(execute(path, {**STUDENT, **environment}))
    assert "Going on from full-2-checkpoint.pt" in text_of(again["train"])
    for name, line in (("train", r"loss [\d.]+ -> [\d.]+"), ("map", r"mAP .*")):
        assert re.search(line, text_of(again[name])).group() == re.search(line, text_of(cells[name])).group()
