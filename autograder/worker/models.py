"""Serves torchvision's networks without a network connection: any form of pretrained weights gives random weights.

Submissions ask for `pretrained=True`, `weights="DEFAULT"`, an enum or `None`; no graded test needs trained weights.
"""

import contextlib
import functools
import sys

import torchvision

try:
    from torchvision.models._api import BUILTIN_MODELS
except ImportError:  # a future torchvision may move it; then models are built as they are
    BUILTIN_MODELS = {}

_ASKS_FOR_WEIGHTS = ("pretrained", "weights", "pretrained_backbone", "weights_backbone", "progress")


@contextlib.contextmanager
def offline_models():
    """Make every model builder of torchvision ignore a wish for pretrained weights, inside the context."""
    changed = []
    for name, build in list(BUILTIN_MODELS.items()):
        offline = _without_weights(build)
        changed.append((BUILTIN_MODELS.__setitem__, name, build))
        BUILTIN_MODELS[name] = offline
        for module in (torchvision.models, sys.modules[build.__module__]):
            if getattr(module, build.__name__, None) is build:
                changed.append((functools.partial(setattr, module), build.__name__, build))
                setattr(module, build.__name__, offline)
    try:
        yield
    finally:
        for put_back, name, build in changed:
            put_back(name, build)


def _without_weights(build):
    @functools.wraps(build)
    def offline(*args, **kwargs):
        wanted = {name: value for name, value in kwargs.items() if name not in _ASKS_FOR_WEIGHTS}
        # The first positional argument of the older interface was `pretrained`.
        return build(**wanted, weights=None)

    return offline
