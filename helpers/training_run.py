"""The state of a training run: one step changes it, a checkpoint holds it."""

import math
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from helpers import checkpoint as ckpt
from helpers.distributed import average_loose_numbers, mean_over_processes, rank_and_world_size
from helpers.history import History
from helpers.optimizer import make_optimizer
from helpers.sampling import can_shuffle, shuffled_loader
from helpers.schedule import learning_rate_factor


class NonFiniteLoss(RuntimeError):
    """A loss became NaN or infinite; the message says which, when, the likely cause, and where to go on from."""


class OutOfMemory(RuntimeError):
    """The GPU is out of memory; the message says which batch size to try."""


def infinite_loader(loader: Iterable) -> Iterator:
    """Yield batches for ever, starting over at each end.

    Args:
        loader: any iterable of batches that can be gone through again, such as a `DataLoader` or a list.

    Yields:
        Its batches.

    Raises:
        ValueError: there is no batch in it.
    """
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError("the loader has no batch: an empty data set, or drop_last with too few images")


class TrainingRun:
    """Detector, optimiser, samples and history: everything that a step changes, and how to save it.

    Args:
        detector: the module; it is moved to `device`.
        device: where to train.
        settings: what decides the result, by the names of `train_detector`'s arguments.
        log_period: steps of one row of the history.
        channels_last: memory layout of weights and images.

    Attributes:
        iteration: steps done.
        history: `History` of the rows that are complete.
        average: the moving average of the detector, or `None`.
    """

    def __init__(self, detector, device, settings, log_period, channels_last):
        self.device, self.settings, self.log_period = device, settings, log_period
        self.rank, self.world_size = rank_and_world_size()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.detector = detector.to(device, memory_format=self.layout)
        self.set_train_mode()
        self.model = self.detector
        if self.world_size > 1:
            devices = [device] if device.type == "cuda" else None
            self.model = nn.parallel.DistributedDataParallel(self.detector, device_ids=devices)
        self.optimizer = make_optimizer(
            detector,
            settings["optimizer"],
            settings["learning_rate"],
            settings["momentum"],
            settings["weight_decay"],
            settings["backbone_lr_factor"],
        )
        self.half = _half_type(device) if settings["mixed_precision"] else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half == torch.float16)
        decay = settings["ema_decay"]
        self.average = _MovingAverage(detector, decay) if decay else None
        self.iteration = 0
        self.history = History()
        self.pending = []  # losses of the period that is not over, one dict of numbers for each step
        self.unread = []  # losses still on the device: reading one makes the processor wait for the GPU
        self.sound = []  # for each of these: whether its images and its boxes are finite
        self.recent = deque(maxlen=100)  # sums of the losses, to tell a failure's cause by
        self.random_at_start = ckpt.random_state()
        self.start_time = time.monotonic()

    def set_train_mode(self) -> None:
        """Train mode, but for the batch norms whose statistics are to stay."""
        self.detector.train()
        if self.settings["freeze_batchnorm"]:
            for module in self.detector.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def open_loader(self, loader: Iterable) -> None:
        """Begin the stream of batches at the present iteration.

        Args:
            loader: as in `train_detector`.

        Raises:
            ValueError: the loader is empty, or every process would get the same batches.
        """
        seed = self.settings["seed"]
        if can_shuffle(loader):
            if seed is not None:
                self.batches = iter(shuffled_loader(loader, seed, self.iteration, self.rank, self.world_size))
                return
            if self.world_size > 1:
                raise ValueError("several processes share batches with a seed only: seed=None gives all the same")
        # The state of the loader is unknown, but not what it gave: go through that again, with the same draws.
        random_state = ckpt.random_state()
        ckpt.restore_random_state(self.random_at_start)
        self.batches = infinite_loader(loader)
        for _ in range(self.iteration):
            next(self.batches)
        ckpt.restore_random_state(random_state)

    def close_loader(self) -> None:
        """End the loader's processes now: left to the garbage collector after an error, each takes five seconds."""
        self.batches = None

    def step(self) -> None:
        """One batch: losses, gradients, new weights.

        Raises:
            OutOfMemory: the GPU's memory is too small for the batch.
        """
        settings = self.settings
        _, images, gt_boxes = next(self.batches)
        factor = learning_rate_factor(
            self.iteration, settings["max_iters"], settings["schedule"], settings["warmup_iters"]
        )
        for group in self.optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * factor * group["factor"]
        try:
            images = images.to(self.device, memory_format=self.layout, non_blocking=True)
            gt_boxes = gt_boxes.to(self.device, non_blocking=True)
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                losses = self.model(images, gt_boxes)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(sum(losses.values())).backward()
            if settings["clip_grad_norm"] is not None:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.detector.parameters(), settings["clip_grad_norm"])
            self.scaler.step(self.optimizer)
            self.scaler.update()
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfMemory(
                f"the GPU ran out of memory with {len(images)} image{'s' * (len(images) > 1)} of {images.shape[-2]} x "
                f"{images.shape[-1]} in a batch; try {self._what_needs_less(len(images))}"
            ) from error
        average_loose_numbers(self.detector, self.device)
        if self.average is not None:
            self.average.update_parameters(self.detector)
        self.unread.append({name: loss.detach() for name, loss in losses.items()})
        self.sound.append((images.isfinite().all(), gt_boxes.isfinite().all()))
        self.iteration += 1

    def _what_needs_less(self, images: int) -> str:
        """What to try when a batch of so many images is too large for the GPU."""
        half = images // 2
        rate = self.settings["learning_rate"] * half / images
        ways = [f"batch_size={half} (and learning_rate={rate:g})"] if half else ["smaller images", "fewer channels"]
        return ", or ".join(ways + ["mixed_precision=True"] * (self.half is None))

    def collect(self, force: bool) -> list[dict]:
        """Read the losses that are due and check them.

        Args:
            force: read them now; else a GPU is only asked once in a logging period.

        Returns:
            The rows that the history has grown by.

        Raises:
            NonFiniteLoss: one is NaN or infinite.
        """
        if not (force or self.device.type == "cpu" or self.iteration % self.log_period == 0):
            return []
        names = list(self.unread[0])
        table = torch.stack([torch.stack([losses[name].float() for name in names]) for losses in self.unread])
        first, sound = self.iteration - len(self.unread), self.sound
        self.unread, self.sound = [], []
        rows = []
        for offset, values in enumerate(mean_over_processes(table).tolist()):
            losses, iteration = dict(zip(names, values)), first + offset + 1
            self._check_finite(losses, iteration, *sound[offset])
            self.pending.append(losses)
            self.recent.append(sum(losses.values()))
            if iteration % self.log_period == 0 or iteration == self.settings["max_iters"]:
                rows.append(self._make_row(names, iteration))
        self.history.rows += rows
        return rows

    def _make_row(self, names: list[str], iteration: int) -> dict:
        means = {name: math.fsum(losses[name] for losses in self.pending) / len(self.pending) for name in names}
        self.pending.clear()
        rate = self.optimizer.param_groups[-1]["lr"]
        seconds = round(time.monotonic() - self.start_time, 3)
        return {"iteration": iteration, **means, "loss": sum(means.values()), "learning_rate": rate, "seconds": seconds}

    def _check_finite(self, losses: dict[str, float], iteration: int, sound_images, sound_boxes) -> None:
        bad = [f"{name} = {value}" for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            cause = self._likely_cause(bool(sound_images), bool(sound_boxes))
            raise NonFiniteLoss(f"iteration {iteration}: {', '.join(bad)}. Likely cause: {cause}")

    def _likely_cause(self, sound_images: bool, sound_boxes: bool) -> str:
        if not sound_images:
            return "an image of the batch holds NaN or infinite pixels"
        if not sound_boxes:
            return "a ground-truth box of the batch is NaN or infinite"
        if self.recent and self.recent[-1] > 3 * min(self.recent):
            return (
                f"the loss had grown from {min(self.recent):.3g} to {self.recent[-1]:.3g}, so the learning rate "
                f"{self.settings['learning_rate']:g} is too high; divide it by 3, or set clip_grad_norm=10"
            )
        if self.half == torch.float16:
            return "float16 overflowed; try mixed_precision=False"
        return "a division by zero or a logarithm of zero in the loss, such as a centerness of 0 / 0"

    def state(self) -> dict:
        """The run in plain types; schedule and samples follow from the iteration.

        Returns:
            The content of a checkpoint.

        Raises:
            NonFiniteLoss: a weight is NaN or infinite, so that the checkpoint before this one is the last good one.
        """
        for name, weight in self.detector.named_parameters():
            if not weight.isfinite().all():
                raise NonFiniteLoss(
                    f"iteration {self.iteration}: the losses are finite, but the weight {name} is not. "
                    f"Likely cause: the gradient of a square root or a division at 0"
                )
        return {
            "settings": self.settings,
            "iteration": self.iteration,
            "model": self.detector.state_dict(),
            "numbers": ckpt.loose_numbers(self.detector),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "random": ckpt.random_state(),
            "random_at_start": self.random_at_start,
            "history": self.history.rows,
            "pending": self.pending,
            "recent": list(self.recent),
        }

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; other settings than its own are taken, with a warning.

        Args:
            path: the file.

        Raises:
            ValueError: it does not fit the detector, or is of an optimiser that keeps other things.
        """
        state = ckpt.load(path)
        missing = sorted({"settings", "iteration", "model", "optimizer"} - set(state))
        if missing:
            raise ValueError(
                f"{path} is no checkpoint of a training run, it lacks {', '.join(missing)}: put a copy back if you "
                "have one, or delete it to start anew"
            )
        old = {"optimizer": "sgd", "backbone_lr_factor": 1.0, **state["settings"]}
        if old["optimizer"] != self.settings["optimizer"]:
            raise ValueError(
                f"{path} was trained with optimizer={old['optimizer']!r}, whose memory of each weight is of no use to "
                f"{self.settings['optimizer']!r}: go on with {old['optimizer']!r}, or start anew"
            )
        groups, own_groups = len(state["optimizer"]["param_groups"]), len(self.optimizer.param_groups)
        if groups != own_groups:
            factor, own_factor = old["backbone_lr_factor"], self.settings["backbone_lr_factor"]
            raise ValueError(
                f"{path} holds {groups} groups of weights, not {own_groups}: it was trained with another "
                f"backbone_lr_factor ({factor:g}, now {own_factor:g}), or with other weights frozen; go on with "
                "that, or start anew"
            )
        changed = [f"{name} {old.get(name)} -> {new}" for name, new in self.settings.items() if old.get(name) != new]
        if changed:
            warnings.warn(f"{path} was trained with other settings: {', '.join(changed)}", stacklevel=3)
        try:
            self.detector.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ValueError(f"{path} is of another detector: {' '.join(str(error).split())[:300]}") from None
        ckpt.restore_loose_numbers(self.detector, state["numbers"], self.device)
        self._load_optimizer(state["optimizer"])
        if state["scaler"]:  # of float16; another kind of GPU may have trained in another precision
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])
        elif self.average is not None:  # it begins here, and is what the detector ends with
            self.average.module.load_state_dict(self.detector.state_dict())
        self.iteration, self.pending, self.history = state["iteration"], state["pending"], History(state["history"])
        self.recent.extend(state.get("recent", ()))
        self.random_at_start = state.get("random_at_start", state["random"])
        ckpt.restore_random_state(state["random"])

    def _load_optimizer(self, state: dict) -> None:
        """Take what the optimiser remembers of each weight; its rates and decays are those asked for now."""
        asked = [{name: value for name, value in g.items() if name != "params"} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, numbers in zip(self.optimizer.param_groups, asked):
            group.update(numbers)


def _half_type(device: torch.device) -> torch.dtype:
    """A T4, which Colab lends, computes float16 fast and bfloat16 slowly; newer GPUs and CPUs have bfloat16."""
    has_bfloat16 = device.type == "cpu" or torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if has_bfloat16 else torch.float16


class _MovingAverage(AveragedModel):
    """Average of weights and buffers; early on it forgets faster, or the random start would weigh in for a long time.

    The base class copies its count of steps to the GPU in every step and waits for that; here it is read where it is.
    """

    def __init__(self, detector: nn.Module, decay: float):
        super().__init__(detector)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        steps = int(self.n_averaged)
        weight = max(1 - self.decay, 9 / (10 + steps)) if steps else 1.0
        averages = (*self.module.parameters(), *self.module.buffers())
        pairs = list(zip(averages, (*model.parameters(), *model.buffers())))
        weights = [(average, value) for average, value in pairs if average.is_floating_point()]
        torch._foreach_lerp_([average for average, _ in weights], [value for _, value in weights], weight)
        for average, value in pairs:
            if not average.is_floating_point():  # counters of batch norm
                average.copy_(value)
        self.n_averaged += 1
