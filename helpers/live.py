"""Loss curves that grow in the notebook while training goes on."""

import time

from helpers.history import History
from helpers.plots import loss_curves


class LiveCurves:
    """Draws the losses below the cell, and again in the same place every few seconds.

    Make it before training, which puts the picture above the progress bar; pass it to `train_detector` as `on_row`, and
    call `draw` at the end for the last rows.

    Args:
        title: above the curves; empty for the usual one.
        seconds: between two drawings, since each takes a part of a second from training.
    """

    def __init__(self, title: str = "", seconds: float = 3.0):
        from IPython.display import Markdown, display

        self._title = title
        self._seconds = seconds
        self._handle = display(Markdown("*The loss will be drawn here.*"), display_id=True)
        self._drawn = time.monotonic()

    def __call__(self, history: History) -> None:
        """Draw, unless that was done a moment ago."""
        if time.monotonic() - self._drawn >= self._seconds:
            self.draw(history)

    def draw(self, history: History) -> None:
        """Draw now, what there is."""
        losses = {name: history.column(name) for name in history.losses}
        if not losses:
            return
        self._handle.update(loss_curves(losses, history.column("iteration"), self._title))
        self._drawn = time.monotonic()
