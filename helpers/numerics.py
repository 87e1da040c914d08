"""How far apart two answers are, in one number."""

import numpy as np
import torch


def rel_error(x: torch.Tensor, y: torch.Tensor, eps: float = 1e-10) -> float:
    """Largest absolute difference of two tensors, relative to their largest joint magnitude.

    Dividing by the magnitude makes one threshold (say 1e-5) serve for losses near 0.01 and box sides near 500.

    Args:
        x, y: tensors or arrays of equal shape.
        eps: smallest denominator, so that two all-zero tensors differ by 0 and not by NaN.

    Returns:
        `max |x - y| / max(|x| + |y|, eps)`; 0 for empty tensors; NaN when either holds a NaN.

    Raises:
        ValueError: the shapes differ; broadcasting would hide that mistake.
    """
    x, y = (torch.as_tensor(np.asarray(v) if not isinstance(v, torch.Tensor) else v).detach().double() for v in (x, y))
    if x.shape != y.shape:
        raise ValueError(f"rel_error compares tensors of equal shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    if x.numel() == 0:
        return 0.0
    largest_difference = (x - y.to(x.device)).abs().max()
    largest_magnitude = (x.abs() + y.to(x.device).abs()).max().clamp(min=eps)
    return (largest_difference / largest_magnitude).item()
