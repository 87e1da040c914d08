"""One call that makes a run repeatable."""

import random

import numpy as np
import torch


def reset_seed(number: int) -> None:
    """Seed every random generator that the assignment draws from: Python's, NumPy's, and PyTorch's on all devices.

    Args:
        number: the seed, a non-negative integer below 2**32 (NumPy's limit).
    """
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
