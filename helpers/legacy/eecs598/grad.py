"""Comparing numbers and gradients, under the old names."""

from collections.abc import Callable

import torch

from helpers.numerics import rel_error

__all__ = ["compute_numeric_gradient", "rel_error"]


def compute_numeric_gradient(
    f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, dLdf: torch.Tensor | None = None, h: float = 1e-7
) -> torch.Tensor:
    """Gradient of `sum(f(x) * dLdf)` by central differences; use float64.

    Args:
        f: takes a tensor of the shape of `x`, returns a tensor.
        x: any shape; left as it was.
        dLdf: gradient with respect to the output of `f`; ones when `None`.
        h: step.

    Returns:
        A tensor of the shape of `x`.
    """
    point = x.detach().clone().contiguous()
    gradient = torch.zeros_like(point)
    entries, slopes = point.view(-1), gradient.view(-1)
    for n in range(entries.numel()):
        old = entries[n].item()
        entries[n] = old + h
        above = f(point).detach().clone()
        entries[n] = old - h
        below = f(point).detach().clone()
        entries[n] = old
        change = (above - below) / (2 * h)
        slopes[n] = change.sum() if dLdf is None else (change * dLdf).sum()
    return gradient
