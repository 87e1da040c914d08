"""Flags: what a person should look at, found without running anything."""

import shutil

import pytest

from autograder.flags import find_flags
from autograder.limits import Limits
from autograder.tasks import FILES, ROOT
from autograder.worker.review import review

# One line of source and what it is flagged as.
FLAGGED = {
    "import torchvision.models.detection": ("ready-made", "torchvision.models.detection"),
    "from torchvision.models.detection import fcos_resnet50_fpn": ("ready-made", "torchvision.models.detection"),
    "from torchvision.ops import nms": ("ready-made", "torchvision.ops.nms"),
    "from torchvision.ops import nms as quick": ("ready-made", "torchvision.ops.nms"),
    "from torchvision.ops.boxes import batched_nms": ("ready-made", "torchvision.ops.boxes.batched_nms"),
    "x = torchvision.ops.nms(b, s, 0.5)": ("ready-made", "torchvision.ops.nms"),
    "x = torch.ops.torchvision.nms(b, s, 0.5)": ("ready-made", "torch.ops.torchvision.nms"),
    "x = getattr(ops, 'batched_nms')": ("ready-made", "batched_nms"),
    "x = ops.FeaturePyramidNetwork([64], 64)": ("ready-made", "ops.FeaturePyramidNetwork"),
    "import ctypes": ("reaching", "ctypes"),
    "import os, signal": ("reaching", "signal"),
    "found = gc.get_objects()": ("reaching", "get_objects"),
    "from gc import get_referrers": ("reaching", "gc.get_referrers"),
    "os.system('ls')": ("reaching", "system"),
    "from os import system": ("reaching", "os.system"),
    "import unittest.mock": ("reaching", "unittest.mock"),
    "from multiprocessing import Process": ("reaching", "multiprocessing"),
    "frame = sys._getframe()": ("reaching", "_getframe"),
    "os._exit(0)": ("reaching", "_exit"),
    "eval('1')": ("reaching", "eval"),
    "__import__('os')": ("reaching", "__import__"),
}
# What honest submissions write.
UNSUSPICIOUS = [
    "from common import nms, class_spec_nms",
    "import common\nx = common.nms(b, s)",
    "def nms(boxes, scores):\n    return boxes\n\nx = nms(b, s)",
    "class Net:\n    def run(self):\n        return self.nms(1)",
    "from torchvision.ops import box_iou, sigmoid_focal_loss",
    "model.eval()",
    "from torchvision.models import feature_extraction",
    "import os, sys, math, random, time, copy, collections, typing, functools, pathlib, json",
    "# torchvision.ops.nms is for comparing with\n'see torchvision.ops.nms'",
    "import re\nx = re.compile('a')",
    "import gc\ngc.collect()\ntorch.cuda.empty_cache()",
    "import platform\nworkers = 0 if platform.system() == 'Windows' else 2",
    "from platform import system",
]


def write(tmp_path, source):
    (tmp_path / "common.py").write_text(source)
    return str(tmp_path)


@pytest.mark.parametrize(("source", "flag"), FLAGGED.items(), ids=FLAGGED)
def test_remarkable_line_is_flagged(tmp_path, source, flag):
    assert ["common.py", 2, *flag] in review(write(tmp_path, f"import torch\n{source}\n"))


@pytest.mark.parametrize("source", UNSUSPICIOUS)
def test_ordinary_line_is_not_flagged(tmp_path, source):
    assert review(write(tmp_path, source)) == []


def test_own_package_may_have_its_own_nms(tmp_path):
    package = tmp_path / "mydet" / "ops"
    package.mkdir(parents=True)
    (package / "boxes.py").write_text("def nms(boxes, scores, iou_threshold):\n    return boxes\n")
    (package / "__init__.py").write_text("from .boxes import nms\n")
    source = "import mydet.ops\nfrom mydet.ops import nms as quick\nx = mydet.ops.nms(b, s, 0.5)\n"
    assert review(write(tmp_path, source)) == []


def test_own_package_is_read_as_well(tmp_path):
    (tmp_path / "mydet").mkdir()
    (tmp_path / "mydet" / "boxes.py").write_text("from torchvision.ops import nms\n")
    assert review(write(tmp_path, "x = 1")) == [["mydet/boxes.py", 1, "ready-made", "torchvision.ops.nms"]]


@pytest.mark.parametrize("name", ["test_nms.py", "nms_test.py", "tests/check.py"])
def test_own_tests_may_use_what_tests_use_and_nothing_more(tmp_path, name):
    (tmp_path / "tests").mkdir()
    (tmp_path / name).write_text("import unittest\nfrom unittest import mock\nimport pytest\nimport ctypes\n")
    assert review(write(tmp_path, "x = 1")) == [[name, 4, "reaching", "ctypes"]]


# How the notebook is saved as a script, by Jupyter and by editors.
SCRIPTS = {"In": "# In[3]:\n", "percent": "# %% [markdown]\n"}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_notebook_saved_as_a_script_may_compare_with_the_library(tmp_path, kind):
    text = f"{SCRIPTS[kind]}import torchvision\nx = torchvision.ops.nms(b, s, 0.5)\nimport ctypes\n"
    (tmp_path / "my_notebook.py").write_text(text)
    assert review(write(tmp_path, "x = 1")) == [["my_notebook.py", 4, "reaching", "ctypes"]]
    # Once the hand-in imports it, or is it, it is no notebook any more.
    flag = [3, "ready-made", "torchvision.ops.nms"]
    assert ["my_notebook.py", *flag] in review(write(tmp_path, "from my_notebook import x"))
    assert ["common.py", *flag] in review(write(tmp_path, text))


def test_shipped_notebook_as_a_script_has_no_flag(tmp_path):
    (tmp_path / "fcos_notebook.py").write_text((ROOT / "solutions" / "notebooks" / "one_stage_detector.py").read_text())
    assert review(write(tmp_path, "x = 1")) == []


def test_solutions_have_no_flag(tmp_path):
    for name in FILES:
        shutil.copy(ROOT / "solutions" / name, tmp_path)
    assert review(str(tmp_path)) == []


@pytest.mark.parametrize(
    "source",
    ["def f(:", "x = 1\0", "(" * 5000, "-" * 100_000 + "1", "x" + ".a" * 50_000],
    ids=["syntax error", "null byte", "brackets", "signs", "attributes"],
)
def test_unreadable_source_is_passed_over(tmp_path, workers, source):
    """In a process of its own: the parser may crash on it, and then that is what is said."""
    write(tmp_path, source)
    flags = find_flags(workers("process"), tmp_path, Limits(seconds=60))
    assert all(flag.startswith("the source could not be reviewed") for flag in flags)


def test_number_of_flags_is_bounded(tmp_path):
    assert len(review(write(tmp_path, "eval('1')\n" * 1000))) == 50


def test_review_runs_nothing(tmp_path, workers):
    folder = tmp_path / "submission"
    folder.mkdir()
    trace = tmp_path / "trace"
    (folder / "common.py").write_text(f"open({str(trace)!r}, 'w').close()\nimport ctypes\n")
    flags = find_flags(workers("process"), folder, Limits(seconds=60))
    assert flags == ["common.py:2: uses ctypes, which the assignment has no need of"]
    assert not trace.exists()
