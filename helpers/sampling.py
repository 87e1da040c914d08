"""A shuffled, endless stream of samples in which sample n depends on the seed and on n alone.

So a resumed run needs to know nothing but its iteration, and neither the number of loader workers nor the number of
training processes changes what the model sees.
"""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, Sampler, SequentialSampler


class ShuffledStream(Sampler):
    """Yields (position, index) without end; every epoch is a new permutation of the data set.

    Args:
        length: samples of the data set.
        seed: of the order.
        batch_size: samples of one process in one iteration.
        start_iteration: iterations to leave out.
        rank: number of this process; it takes its own part of every joint batch.
        world_size: number of processes.
    """

    def __init__(
        self, length: int, seed: int, batch_size: int, start_iteration: int = 0, rank: int = 0, world_size: int = 1
    ):
        self.length, self.seed, self.batch_size = length, seed, batch_size
        self.start_iteration, self.rank, self.world_size = start_iteration, rank, world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        iteration, epoch, order = self.start_iteration, -1, None
        while True:
            first = (iteration * self.world_size + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = self._permutation(epoch)
                yield position, order[position % self.length]
            iteration += 1

    def _permutation(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
        return torch.randperm(self.length, generator=generator).tolist()


class SeededSamples(Dataset):
    """Draws the augmentation of each sample from (seed, position) and leaves the caller's random state alone.

    Args:
        dataset: what is wrapped; its `__getitem__` may use Python's, NumPy's and PyTorch's global generators.
        seed: of the augmentation.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, position_and_index: tuple[int, int]):
        position, index = position_and_index
        number = _mix(self.seed, position)
        python_state, numpy_state = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                random.seed(number)
                np.random.seed(number % 2**32)
                torch.default_generator.manual_seed(number)  # torch.manual_seed would reseed the GPUs, too
                return self.dataset[index]
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def shuffled_loader(
    loader: DataLoader, seed: int, start_iteration: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """The same loader (data set, batch size, workers), but shuffled, endless, and able to begin anywhere.

    Args:
        loader: over a data set with a length, with a batch size.
        seed: of order and augmentation.
        start_iteration: iterations to leave out.
        rank: number of this process.
        world_size: number of processes; together they see `world_size` times the loader's batch size per iteration.

    Returns:
        A new loader; see `can_shuffle` for those that this works with.

    Raises:
        ValueError: the data set is empty.
    """
    if len(loader.dataset) == 0:
        raise ValueError("the data set is empty: there is nothing to train on")
    workers = {"prefetch_factor": loader.prefetch_factor} if loader.num_workers else {}
    return DataLoader(
        SeededSamples(loader.dataset, seed),
        batch_size=loader.batch_size,
        sampler=ShuffledStream(len(loader.dataset), seed, loader.batch_size, start_iteration, rank, world_size),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=partial(leave_interrupts_to_the_loop, then=loader.worker_init_fn),
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator(),  # or the loader draws from the global generator, which training is to have alone
        **workers,
    )


def leave_interrupts_to_the_loop(worker: int, then: Callable[[int], None] | None = None) -> None:
    """Let a loader process live on when the user or a scheduler stops the run (`worker_init_fn=` of a `DataLoader`).

    Ctrl-C in a terminal, and Jupyter's button, reach all processes of a training. If those that load were to end at
    once, the loop could not finish its step and save it.

    Args:
        worker: number of the process.
        then: called with the number as well.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says_so, daemon=True).start()
    if then is not None:
        then(worker)


def _end_when_the_parent_says_so() -> None:
    """Hear SIGTERM of the training process, which ends its loader so, and of nobody else: schedulers send it to all."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def can_shuffle(loader) -> bool:
    """Tell whether `shuffled_loader` keeps the loader's meaning: one with a sampler of its own does as it wants.

    Args:
        loader: a `DataLoader` or any iterable of batches.

    Returns:
        Whether the order of its samples is free to be chosen.
    """
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and loader.batch_size is not None
        and type(loader.sampler) in (SequentialSampler, RandomSampler)
    )


def _mix(seed: int, number: int) -> int:
    """One well-spread 63-bit seed of two numbers; `seed + number` would make neighbouring runs share their draws."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)
