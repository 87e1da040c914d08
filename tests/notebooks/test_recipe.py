"""The notebook's full run is the run of `configs/voc2007_regnet.yaml`: what is measured there is what students get."""

import json
import os
from types import SimpleNamespace

from autograder.tasks import ROOT
from tools.configuration import load_configuration
from tools.runs import changed_settings

MASTER = ROOT / "solutions" / "notebooks" / "one_stage_detector.py"


def test_full_run_is_that_of_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("FCOS_QUICK", "0")
    for name in ("FCOS_MAX_ITERS", "FCOS_BACKBONE_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    _, rest = MASTER.read_text(encoding="utf-8").split('# %% id="run-settings" tags=["parameters"]\n')
    cell = {"os": os, "workspace": SimpleNamespace(device="cpu", output=tmp_path)}
    exec(rest.split("# %%")[0], cell)
    settings = {
        "data": {"image_size": cell["IMAGE_SIZE"], **cell["AUGMENTATION"]},
        "model": {"fpn_channels": cell["FPN_CHANNELS"], "stem_channels": cell["STEM_CHANNELS"], **cell["BACKBONE"]},
        "train": {"max_iters": cell["MAX_ITERS"], "batch_size": cell["BATCH_SIZE"], **cell["RECIPE"]},
    }
    (tmp_path / "notebook.yaml").write_text(json.dumps(settings))  # YAML, too, and tuples are lists
    shipped = load_configuration(ROOT / "configs" / "voc2007_regnet.yaml")
    assert changed_settings(shipped, load_configuration(tmp_path / "notebook.yaml")) == []
