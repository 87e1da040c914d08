"""Loss curves that grow in the notebook while training goes on."""

import time

from helpers.history import History
from helpers.plots import loss_curves


class LiveCurves:
    """Draws the losses below the cell, and again in the same place every few seconds.

    Pass it to `train_detector` as `on_row`, and call `draw` at the end for the last rows.

    Args:
        title: above the curves; empty for the usual one.
        seconds: between two drawings, since each takes a part of a second from training.
    """

    def __init__(self, title: str = "", seconds: float = 3.0):
        self._title = title
        self._seconds = seconds
        self._handle = None
        self._drawn = time.monotonic()

    def __call__(self, history: History) -> None:
        """Draw, unless that was done a moment ago."""
        if time.monotonic() - self._drawn >= self._seconds:
            self.draw(history)

    def draw(self, history: History) -> None:
        """Draw now, what there is."""
        from IPython.display import display

        losses = {name: history.column(name) for name in history.losses}
        if not losses:
            return
        figure = loss_curves(losses, history.column("iteration"), self._title)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        self._drawn = time.monotonic()
