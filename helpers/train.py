"""The training loop: take a batch, compute the losses, step, and be ready to be interrupted at any time."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers import checkpoint as ckpt
from helpers.allocator import kept_memory
from helpers.denormals import call_without_denormals
from helpers.distributed import rank_and_world_size
from helpers.history import History
from helpers.progress import progress_bar
from helpers.schedule import SCHEDULES
from helpers.training_run import NonFiniteLoss, OutOfMemory, TrainingRun, infinite_loader

__all__ = ["History", "NonFiniteLoss", "OutOfMemory", "infinite_loader", "train_detector"]


def train_detector(
    detector: nn.Module,
    train_loader: Iterable,
    learning_rate: float = 5e-3,
    weight_decay: float = 1e-4,
    max_iters: int = 5000,
    log_period: int = 20,
    device: str | torch.device = "cpu",
    *,
    seed: int | None = 0,
    optimizer: str = "sgd",
    backbone_lr_factor: float = 1.0,
    schedule: str = "step",
    warmup_iters: int = 0,
    momentum: float = 0.9,
    clip_grad_norm: float | None = None,
    ema_decay: float | None = None,
    freeze_batchnorm: bool = False,
    mixed_precision: bool = False,
    channels_last: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_period: int = 500,
    resume: bool = False,
    tensorboard: str | Path | None = None,
    on_row: Callable[[History], None] | None = None,
    progress: bool = True,
) -> History:
    """Train a detector in place.

    Args:
        detector: in train mode `detector(images, gt_boxes)` returns a dict of scalar losses, whose sum is minimised.
        train_loader: batches (paths, images (B, 3, H, W), gt_boxes (B, M, 5)).
        learning_rate: at its highest; `helpers.schedule.scale_learning_rate` adapts it to another batch size.
        weight_decay: of all weights; AdamW takes a larger one, such as 0.05.
        max_iters: number of steps.
        log_period: steps that one row of the history averages over.
        device: where to train.
        seed: of the order of the images and of their augmentation; `None` takes batches as the loader gives them. A
            resume then goes through all earlier ones again, and is exact if the detector draws no random numbers.
        optimizer: "sgd" or "adamw", whose rates are some ten times smaller; see `helpers.optimizer`.
        backbone_lr_factor: the pretrained network's learning rate, divided by that of the rest, such as 0.1.
        schedule: "step" or "cosine"; see `helpers.schedule`.
        warmup_iters: steps over which the rate first rises.
        momentum: of SGD, or the first beta of AdamW.
        clip_grad_norm: largest norm of the whole gradient, or `None`.
        ema_decay: decay of a moving average of the weights, such as 0.998; the detector ends with the average.
        freeze_batchnorm: keep the statistics of batch norms as they are.
        mixed_precision: half precision where it is safe (bfloat16 if the GPU has it, else float16 with a scaler);
            made for GPUs, many CPUs become slower.
        channels_last: memory layout (B, H, W, C), faster on GPUs with mixed precision and on many CPUs.
        checkpoint: file to save the run in every `checkpoint_period` steps, at the end, and when interrupted.
        checkpoint_period: steps between two checkpoints.
        resume: go on from `checkpoint` if it exists, bit for bit as if nothing had happened (on a CPU); else start.
        tensorboard: folder for TensorBoard's log.
        on_row: called with the history so far whenever it has grown, such as a `helpers.live.LiveCurves`.
        progress: show a bar.

    Returns:
        The `History`, also that of the part before a resume.

    Raises:
        ValueError: an option makes no sense, or the loader is empty.
        FileExistsError: `checkpoint` holds another run and `resume` does not say to go on with it.
        NonFiniteLoss: a loss is NaN or infinite.
        OutOfMemory: the GPU's memory is too small; the message says which batch size to try.
    """
    settings = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "max_iters": max_iters,
        "seed": seed,
        "optimizer": optimizer,
        "backbone_lr_factor": backbone_lr_factor,
        "schedule": schedule,
        "warmup_iters": warmup_iters,
        "momentum": momentum,
        "clip_grad_norm": clip_grad_norm,
        "ema_decay": ema_decay,
        "freeze_batchnorm": freeze_batchnorm,
        "mixed_precision": mixed_precision,
    }
    # A checkpoint holds plain numbers only, and one of NumPy's could not be read back.
    settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    _check_settings(settings)
    if min(log_period, checkpoint_period) < 1:
        raise ValueError("log_period and checkpoint_period must be at least 1")
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to go on from")
    checkpoint = Path(checkpoint) if checkpoint is not None else None
    found = checkpoint is not None and checkpoint.exists()
    if found and not resume:
        raise FileExistsError(
            f"{checkpoint} holds an earlier run: pass resume=True to go on with it, or delete it to start anew"
        )
    run = TrainingRun(detector, torch.device(device), settings, log_period, channels_last)
    if found:
        run.load(checkpoint)
    run.open_loader(train_loader)
    show = progress and run.rank == 0
    loop = partial(_loop, run, max_iters, checkpoint, checkpoint_period, tensorboard, on_row, show)
    try:
        _call_interruptibly(loop, run.device)
    finally:
        run.close_loader()
    if run.average is not None:
        detector.load_state_dict(run.average.module.state_dict())
    return run.history


def _check_settings(settings: dict) -> None:
    """Refuse what would train, but not as it says."""
    if settings["schedule"] not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {settings['schedule']!r}")
    for name in ("max_iters", "warmup_iters", "seed"):
        if settings[name] is not None and settings[name] < 0:
            raise ValueError(f"{name} must not be negative, but is {settings[name]}")
    for name in ("learning_rate", "weight_decay"):
        if not 0 <= settings[name] < float("inf"):
            raise ValueError(f"{name} must be a number that is not negative, not {settings[name]}")
    norm, decay = settings["clip_grad_norm"], settings["ema_decay"]
    if norm is not None and not norm > 0:
        raise ValueError(f"clip_grad_norm must be above 0, not {norm}: no gradient would be left; None clips nothing")
    if decay is not None and not 0 <= decay < 1:
        raise ValueError(f"ema_decay must be at least 0 and below 1, not {decay}")


def _call_interruptibly(loop: Callable[[threading.Event], None], device: torch.device) -> None:
    """Run the loop with an event that Ctrl-C sets, so that a step is finished and saved before it ends.

    Raises:
        KeyboardInterrupt: the loop has ended because of it.
    """
    if device.type == "cpu":
        with kept_memory():
            call_without_denormals(loop)
    else:
        with _interrupts() as stop:
            loop(stop)


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second Ctrl-C does not wait, and whoever handles Ctrl-C otherwise keeps doing so."""
    stop = threading.Event()
    can_handle = threading.current_thread() is threading.main_thread()  # Python lets no other thread handle signals
    alone = rank_and_world_size()[1] == 1  # several processes would stop at different steps and wait for each other
    if not (can_handle and alone and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        yield stop
        return

    def handle(number, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if stop.is_set():
        raise KeyboardInterrupt


def _loop(run, max_iters, checkpoint, checkpoint_period, tensorboard, on_row, show, stop: threading.Event) -> None:
    """Steps, with what happens between them: rows, checkpoints, the bar."""
    bar = progress_bar(total=max_iters, initial=run.iteration, desc="training", disable=not show)
    log = _tensorboard_writer(tensorboard, run.iteration) if tensorboard and run.rank == 0 else None
    try:
        stopped = False
        while run.iteration < max_iters and not stopped:
            run.step()
            stopped = stop.is_set()
            due = stopped or run.iteration == max_iters or run.iteration % checkpoint_period == 0
            new_rows = run.collect(force=due)
            if due and checkpoint and run.rank == 0:
                ckpt.save_atomic(run.state(), checkpoint)
            for row in new_rows if log else ():
                for name, value in row.items():
                    log.add_scalar(name, value, row["iteration"])
            if new_rows and on_row is not None and run.rank == 0:
                on_row(run.history)
            bar.update()
            if new_rows and show:
                bar.set_postfix_str(_summary(new_rows[-1], run), refresh=False)
    except NonFiniteLoss as error:
        saved = f"The last good checkpoint is {checkpoint}" if checkpoint and checkpoint.exists() else "None was saved"
        raise NonFiniteLoss(f"{error}. {saved}.") from None
    finally:
        bar.close()
        if log:
            log.close()


def _summary(row: dict, run: TrainingRun) -> str:
    losses = " ".join(f"{name.removeprefix('loss_')} {row[name]:.3f}" for name in run.history.losses)
    if run.device.type == "cuda":
        used = torch.cuda.max_memory_allocated(run.device)
    else:
        import psutil

        used = psutil.Process().memory_info().rss
    return f"{losses}, {used / 2**30:.1f} GiB"


def _tensorboard_writer(folder: str | Path, iteration: int):
    """A log that forgets what a killed run wrote after the checkpoint of `iteration`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("tensorboard= needs an extra package: pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=iteration + 1)
