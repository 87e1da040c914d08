"""What students import beside their own code: data, training, evaluation, pictures.

Names are looked up when they are asked for (PEP 562): `from helpers import reset_seed` does not import matplotlib.
"""

import importlib

# public name -> module that defines it
_HOME = {
    "reset_seed": "seed",
    "rel_error": "numerics",
    "make_sample": "sample",
    "download_voc2007": "download",
    "VOC2007DetectionTiny": "dataset",
    "collate": "dataset",
    "detection_visualizer": "visualize",
    "infinite_loader": "train",
    "train_detector": "train",
    "History": "train",
    "inference_with_detector": "inference",
    "detect": "inference",
    "evaluate_voc": "evaluation",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    """Import the module that defines `name`, and keep the name here for the next time."""
    if name not in _HOME:
        raise AttributeError(f"module 'helpers' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"helpers.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names before they are imported, for completion in notebooks."""
    return sorted(set(globals()) | set(__all__))
