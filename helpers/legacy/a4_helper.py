"""`from a4_helper import *`, as submissions of the original assignment begin: the kit's helpers under their old names.

Old submissions also take modules such as `torch` and `nn` from this star, so those are handed on. Training and pictures
are looked up when they are called: importing this module stays cheap.
"""

import importlib
import json
import math
import os
import random
import shutil
import time
from typing import Dict, List, Optional, Tuple  # noqa: UP035 - the names are what is handed on

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms

import helpers
from helpers.dataset import VOC2007DetectionTiny
from helpers.numerics import rel_error
from helpers.seed import reset_seed


class _Later:
    """Stands for a module and imports it at the first use of one of its attributes."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self._name), attribute)


plt = _Later("matplotlib.pyplot")


def hello_helper() -> None:
    """Print a greeting, which shows that this file was found."""
    print("Hello from a4_helper.py!")


def infinite_loader(*args, **kwargs):
    """Yield batches without end; see `helpers.infinite_loader`."""
    return helpers.infinite_loader(*args, **kwargs)


def train_detector(*args, **kwargs):
    """Train a detector; see `helpers.train_detector`."""
    return helpers.train_detector(*args, **kwargs)


def inference_with_detector(*args, **kwargs) -> None:
    """Show detections at once, as old notebooks expect; `helpers.inference_with_detector` returns the pictures."""
    for figure in helpers.inference_with_detector(*args, **kwargs):
        _show(figure)


def detection_visualizer(*args, **kwargs) -> None:
    """Show a picture at once, as old notebooks expect; `helpers.detection_visualizer` returns it instead."""
    _show(helpers.detection_visualizer(*args, **kwargs))


def _show(figure) -> None:
    try:
        from IPython.display import display
    except ImportError:  # a script: it has nowhere to show a picture
        return
    display(figure)


__all__ = [  # noqa: RUF022 - in two groups
    # the helpers
    "VOC2007DetectionTiny",
    "detection_visualizer",
    "hello_helper",
    "infinite_loader",
    "inference_with_detector",
    "rel_error",
    "reset_seed",
    "train_detector",
    # what old submissions use without importing it
    "DataLoader",
    "Dataset",
    "Dict",
    "F",
    "Image",
    "List",
    "Optional",
    "Tuple",
    "default_collate",
    "json",
    "math",
    "nn",
    "np",
    "optim",
    "os",
    "plt",
    "random",
    "shutil",
    "time",
    "torch",
    "torchvision",
    "transforms",
]
