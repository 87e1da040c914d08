"""A notebook written for the original assignment runs against the kit: its imports, its calls, and no network."""

from pathlib import Path

import jupytext
import nbformat
import pytest
import torch
from student_copy import ROOT, execute, make_student_copy, pictures_of, text_of
from torchvision.models import RegNet_X_400MF_Weights, regnet_x_400mf

from helpers import make_sample

MASTER = Path(__file__).with_name("old_notebook.py")
# In order of the notebook.
PRINTED = [
    "Hello from a4_helper.py!\nHello from common.py!\nHello from one_stage_detector.py!\nedited",
    "batch (4, 3, 64, 64) (4, 5) 4 20",
    "pyramid {'p3': (2, 64, 8, 8), 'p4': (2, 64, 4, 4), 'p5': (2, 64, 2, 2)}",
    "locations [[4.0, 4.0], [12.0, 4.0], [20.0, 4.0]]",  # (x, y), where the original printed (row, column)
    "head (2, 64, 20) (2, 64, 4) (2, 64, 1)",
    "round trip True centerness 1.0",  # (30, 40) is the centre of (10, 20, 50, 60)
    "nms True",
    "inference 4 True",
    "handed in",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = make_student_copy(tmp_path_factory.mktemp("old") / "old assignment", ROOT / "solutions")
    # Where torchvision keeps what it has downloaded before: the old notebook asks for pretrained weights.
    cache = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(regnet_x_400mf(weights=None).state_dict(), cache / RegNet_X_400MF_Weights.DEFAULT.url.rsplit("/")[-1])
    notebook = jupytext.read(MASTER, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"old-{number}"
    nbformat.write(notebook, folder / "one_stage_detector.ipynb")
    environment = {
        "PYTHONPATH": str(folder / "helpers" / "legacy"),
        "TORCH_HOME": str(cache.parents[1]),
        "OLD_DATA": str(make_sample(tmp_path_factory.mktemp("data"))),
    }
    return folder, execute(folder / "one_stage_detector.ipynb", environment)


@pytest.mark.timeout(600)
def test_old_notebook_runs_and_prints_what_it_should(executed):
    text = "".join(text_of(cell) for cell in executed[1].cells)
    position = 0
    for part in PRINTED:
        assert part in text[position:], f"{part!r} is not in {text[position:]!r}"
        position = text.index(part, position)


@pytest.mark.timeout(600)
def test_old_notebook_shows_its_pictures(executed):
    # Two images of the batch, one with locations, and one for each image of inference.
    assert [n for n in map(pictures_of, executed[1].cells) if n] == [2, 1, 2]


@pytest.mark.timeout(600)
def test_old_notebook_leaves_a_zip(executed):
    assert (executed[0] / "ada01_fcos.zip").is_file()
