"""Loss curves that grow while training goes on: one picture, drawn again in its place."""

import pytest
import torch
from torch import nn

from helpers import train_detector
from helpers.history import History
from helpers.live import LiveCurves


class OneWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images, gt_boxes):
        return {"loss_cls": self.weight.square().sum()}


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show: "new", then the number of points of each drawing in the same place."""
    events = []

    class Handle:
        def update(self, figure):
            events.append(len(figure.axes[0].lines[0].get_xdata()))

    def display(placeholder, display_id):
        events.append("new")
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    return events


def test_training_hands_out_its_history_row_by_row():
    batch = (["a.jpg"], torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 5))
    lengths = []
    # 12 steps, a row for every 4 of them
    train_detector(
        OneWeight(),
        [batch],
        max_iters=12,
        log_period=4,
        progress=False,
        on_row=lambda history: lengths.append(len(history)),
    )
    assert lengths == [1, 2, 3]


def test_curves_are_drawn_again_in_their_place(shown):
    history, live = History(), LiveCurves(seconds=0)
    for iteration in (5, 10, 15):
        history.rows.append({"iteration": iteration, "loss_cls": 1.0, "loss": 1.0})
        live(history)
    assert shown == ["new", 1, 2, 3]


def test_curves_wait_between_two_drawings_and_come_at_the_end(shown):
    history, live = History([{"iteration": 5, "loss_cls": 1.0, "loss": 1.0}]), LiveCurves(seconds=1000)
    live(history)
    live(history)
    assert shown == ["new"]
    live.draw(history)
    assert shown == ["new", 1]


def test_nothing_is_drawn_of_a_run_without_rows(shown):
    LiveCurves().draw(History())
    assert shown == ["new"]
