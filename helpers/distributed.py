"""Several processes that train one detector: each takes its part of every batch (`torchrun --nproc-per-node=2 ...`)."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import distributed, nn

from helpers.checkpoint import loose_numbers


@contextlib.contextmanager
def torchrun_group(device: str = "cpu") -> Iterator[str]:
    """Join the processes that `torchrun` started; without `torchrun` do nothing.

    Args:
        device: "cpu" or "cuda".

    Yields:
        The device of this process: "cpu", or the GPU with its number on this machine.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield device
        return
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def rank_and_world_size() -> tuple[int, int]:
    """Number of this process and of all; (0, 1) for a process by itself.

    Returns:
        (rank, world size).
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if rank_and_world_size()[1] > 1:
        distributed.barrier()


def mean_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Average a tensor over all processes; each must call this.

    Args:
        values: any shape, floating.

    Returns:
        The mean, same shape, on every process.
    """
    _, world_size = rank_and_world_size()
    if world_size > 1:
        values = values.clone()
        distributed.all_reduce(values)
        values /= world_size
    return values


def average_loose_numbers(detector: nn.Module, device: str | torch.device) -> None:
    """Let all processes agree on the floats that a detector keeps beside its weights (FCOS: `_normalizer`).

    Args:
        detector: the module itself, not its wrapper.
        device: where the exchange takes place.
    """
    if rank_and_world_size()[1] == 1:
        return
    for name, value in loose_numbers(detector).items():
        if isinstance(value, float) or (isinstance(value, torch.Tensor) and value.is_floating_point()):
            mean = mean_over_processes(torch.as_tensor(value, dtype=torch.float64, device=device))
            setattr(detector, name, mean.item() if isinstance(value, float) else mean.to(value.dtype))
