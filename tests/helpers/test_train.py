"""Training: repeatable, resumable after a kill, and clear when it fails."""

import copy
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_detector import TinyDetector, TinyImages, tiny_loader
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, SubsetRandomSampler

from helpers.checkpoint import load, save_atomic
from helpers.denormals import call_without_denormals
from helpers.distributed import rank_and_world_size, torchrun_group
from helpers.history import History
from helpers.optimizer import OPTIMIZERS, make_optimizer
from helpers.sampling import ShuffledStream, can_shuffle, shuffled_loader
from helpers.schedule import learning_rate_factor, scale_learning_rate
from helpers.train import _call_interruptibly, infinite_loader, train_detector
from helpers.training_run import NonFiniteLoss, OutOfMemory, TrainingRun, _MovingAverage

HERE = Path(__file__).resolve().parent


def run_python(*arguments, **options):
    """A process of its own, with the kit and this folder on its path."""
    environment = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, **options)


def train(detector=None, loader=None, max_iters=12, **options):
    """A short run from a fixed start; returns (detector, history)."""
    if detector is None:
        torch.manual_seed(3)
        detector = TinyDetector()
    torch.manual_seed(4)  # dropout draws from it
    loader = tiny_loader() if loader is None else loader
    history = train_detector(detector, loader, max_iters=max_iters, log_period=4, progress=False, **options)
    return detector, history


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


def losses_of(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]


# --- the loader -------------------------------------------------------------------------------------------------------


def test_infinite_loader_starts_over():
    batches = infinite_loader([1, 2])
    assert [next(batches) for _ in range(5)] == [1, 2, 1, 2, 1]


def test_infinite_loader_refuses_a_loader_without_batches():
    with pytest.raises(ValueError, match="no batch"):
        next(infinite_loader([]))


def test_every_epoch_of_the_stream_is_another_permutation():
    stream = iter(ShuffledStream(length=7, seed=0, batch_size=3))
    epochs = [[next(stream)[1] for _ in range(7)] for _ in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_stream_can_begin_at_any_iteration():
    whole, late = iter(ShuffledStream(7, 0, 3)), iter(ShuffledStream(7, 0, 3, start_iteration=5))
    assert [next(whole) for _ in range(30)][15:] == [next(late) for _ in range(15)]


def test_two_processes_share_the_batches_of_one():
    one = iter(ShuffledStream(7, 0, batch_size=4))
    parts = [iter(ShuffledStream(7, 0, batch_size=2, rank=rank, world_size=2)) for rank in (0, 1)]
    for _ in range(5):
        assert [next(one) for _ in range(4)] == [next(part) for part in parts for _ in range(2)]


def test_samples_do_not_depend_on_workers_nor_touch_the_global_state():
    before = torch.get_rng_state()
    loaders = [iter(shuffled_loader(tiny_loader(num_workers=workers), seed=5)) for workers in (0, 2)]
    for _ in range(4):
        one, other = (next(loader) for loader in loaders)
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])
    assert torch.equal(before, torch.get_rng_state())


def test_a_sampler_of_ones_own_is_left_alone():
    assert can_shuffle(tiny_loader())
    assert can_shuffle(tiny_loader(shuffle=True))
    assert not can_shuffle(DataLoader(TinyImages(), batch_size=2, sampler=SubsetRandomSampler([1, 2])))
    assert not can_shuffle([1, 2])


# --- the schedule -----------------------------------------------------------------------------------------------------

# schedule, warm-up, iteration of 100, factor
FACTORS = [
    ("step", 0, 0, 1.0),
    ("step", 0, 59, 1.0),
    ("step", 0, 60, 0.1),
    ("step", 0, 89, 0.1),
    ("step", 0, 90, 0.01),
    ("step", 0, 99, 0.01),
    ("step", 9, 0, 0.1),  # the first of 10 equal steps up
    ("step", 9, 8, 0.9),
    ("step", 9, 9, 1.0),
    ("cosine", 0, 0, 1.0),
    ("cosine", 0, 50, 0.5),
    ("cosine", 0, 75, 0.5 * (1 + math.cos(math.pi * 0.75))),
    ("cosine", 20, 60, 0.5),  # half of what is left after the warm-up
]


@pytest.mark.parametrize(("schedule", "warmup", "iteration", "factor"), FACTORS)
def test_learning_rate_factor(schedule, warmup, iteration, factor):
    assert learning_rate_factor(iteration, 100, schedule, warmup) == pytest.approx(factor)


def test_linear_scaling_rule_says_what_it_changed(capsys):
    assert scale_learning_rate(0.005, 64) == pytest.approx(0.02)
    assert "0.005 -> 0.02: 64 images in a batch instead of 16" in capsys.readouterr().out
    assert scale_learning_rate(0.005, 16) == 0.005
    assert capsys.readouterr().out == ""


# --- the run ----------------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_returns_a_row_per_period():
    _, history = train(max_iters=200, learning_rate=0.05)
    assert history.column("iteration") == list(range(4, 204, 4))
    assert history.column("loss")[-1] < 0.7 * history.column("loss")[0]
    assert history.losses == ["loss_cls", "loss_box", "loss_ctr", "loss"]


def test_plain_step_is_sgd_with_momentum_and_weight_decay():
    loader = [tiny_loader(augment=False).dataset[0]]
    batch = [("0.jpg",), loader[0][1][None], loader[0][2][None]]
    torch.manual_seed(0)
    ours, plain = TinyDetector(dropout=0), TinyDetector(dropout=0)
    plain.load_state_dict(ours.state_dict())
    train_detector(ours, [batch], learning_rate=0.1, weight_decay=0.01, max_iters=10, progress=False)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 9])  # 60 % and 90 % of 10
    plain.train()
    for _ in range(10):
        optimizer.zero_grad()
        sum(plain(batch[1], batch[2]).values()).backward()
        optimizer.step()
        scheduler.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-6, atol=1e-7)


def test_adamw_is_pytorchs():
    torch.manual_seed(0)
    ours, plain = TinyDetector(dropout=0), TinyDetector(dropout=0)
    plain.load_state_dict(ours.state_dict())
    batch = next(iter(tiny_loader(augment=False)))
    train_detector(ours, [batch], 0.02, 0.1, max_iters=5, optimizer="adamw", momentum=0.8, progress=False)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.02, betas=(0.8, 0.999), weight_decay=0.1)
    plain.train()
    for factor in (1, 1, 1, 0.1, 0.1):  # the rate falls at 60 %
        optimizer.param_groups[0]["lr"] = 0.02 * factor
        optimizer.zero_grad()
        sum(plain(batch[1], batch[2]).values()).backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)


class WithBackbone(TinyDetector):
    """Its first layers are called as the network from ImageNet is in a detector of the assignment."""

    def __init__(self):
        super().__init__(dropout=0)
        self.backbone = nn.ModuleDict({"backbone": self._modules.pop("features")})

    @property
    def features(self):
        return self.backbone["backbone"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_backbone_learns_at_its_share_of_the_rate(optimizer):
    rates = {"name": optimizer, "learning_rate": 0.1, "weight_decay": 0.0}
    steps = {}
    for factor in (1.0, 0.5, 0.0):
        torch.manual_seed(0)
        detector = WithBackbone()
        before = {name: weight.detach().clone() for name, weight in detector.named_parameters()}
        trained = make_optimizer(detector, **rates, backbone_lr_factor=factor)
        images, gt_boxes = next(iter(tiny_loader(augment=False)))[1:]
        sum(detector.train()(images, gt_boxes).values()).backward()
        trained.step()
        steps[factor] = {name: weight.detach() - before[name] for name, weight in detector.named_parameters()}
    for name, step in steps[1.0].items():
        share = 0.5 if name.startswith("backbone.backbone.") else 1.0
        torch.testing.assert_close(steps[0.5][name], share * step, rtol=1e-4, atol=1e-7)
        assert bool(steps[0.0][name].any()) == (share == 1.0)


def test_frozen_backbone_has_no_rate_and_is_no_mistake():
    detector = WithBackbone()
    detector.backbone.requires_grad_(False)
    (group,) = make_optimizer(detector, "adamw", 0.1, backbone_lr_factor=0.1).param_groups
    assert (len(group["params"]), group["lr"]) == (2, 0.1)


def test_rates_of_a_run_follow_schedule_and_share():
    rates = []

    def note(optimizer, *_):
        rates.append([group["lr"] for group in optimizer.param_groups])

    hook = register_optimizer_step_pre_hook(note)
    try:
        _, history = train(WithBackbone(), learning_rate=0.08, backbone_lr_factor=0.25, warmup_iters=1)
    finally:
        hook.remove()
    # 12 steps: half the rate, then all of it, a tenth from 60 % and a hundredth from 90 %
    assert rates == [pytest.approx([rate / 4, rate]) for rate in [0.04] + [0.08] * 7 + [0.008] * 3 + [0.0008]]
    assert history.column("learning_rate") == [rates[n][1] for n in (3, 7, 11)]


def test_same_seed_same_run_and_another_seed_another():
    one, other, third = (train(seed=seed) for seed in (0, 0, 1))
    assert same_weights(one[0], other[0])
    assert losses_of(one[1]) == losses_of(other[1])
    assert not same_weights(one[0], third[0])


# options that add state of their own, or change where samples come from
RESUMABLE = {
    "plain": {},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "everything": {"schedule": "cosine", "warmup_iters": 3, "ema_decay": 0.9, "clip_grad_norm": 1.0},
    "workers": {"loader": lambda: tiny_loader(num_workers=2)},
    "unshuffled": {"seed": None, "loader": lambda: tiny_loader(augment=False)},
    "half": {"mixed_precision": True},
}


@pytest.mark.parametrize("name", RESUMABLE)
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(name, tmp_path):
    options = dict(RESUMABLE[name])
    make_loader = options.pop("loader", tiny_loader)
    whole, whole_history = train(loader=make_loader(), **options)

    class Interrupted(TinyDetector):
        def forward(self, *args, **kwargs):
            if self.training and self.calls == 7:  # after the checkpoint of iteration 6, inside a logging period
                raise MemoryError("the power is off")
            self.calls += 1
            return super().forward(*args, **kwargs)

    file = tmp_path / "run" / "checkpoint.pt"
    torch.manual_seed(3)
    victim = Interrupted()
    victim.calls = 0
    with pytest.raises(MemoryError):
        train(victim, make_loader(), checkpoint=file, checkpoint_period=3, **options)
    assert load(file)["iteration"] == 6
    assert not multiprocessing.active_children()  # loader processes end with the run

    torch.manual_seed(99)  # another process would have other weights and other random states
    resumed, history = train(TinyDetector(), make_loader(), checkpoint=file, resume=True, **options)
    assert same_weights(resumed, whole)
    assert resumed._normalizer == whole._normalizer
    assert losses_of(history) == losses_of(whole_history)


KILLED = """
import os, signal, sys
import torch
from test_train import TinyDetector, train

class Killed(TinyDetector):
    def forward(self, *args, **kwargs):
        if self.features[1].num_batches_tracked == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(*args, **kwargs)

torch.manual_seed(3)
train(Killed(), checkpoint=sys.argv[1], checkpoint_period=3)
"""


# Sums depend on the number of threads, so all runs that are compared to the bit have a process like the killed one's.
RESUMED = """
import sys
from test_train import TinyDetector, losses_of, same_weights, train

resumed, history = train(TinyDetector(), checkpoint=sys.argv[1], resume=True)
whole, whole_history = train()
print(len(history.rows), same_weights(resumed, whole), losses_of(history) == losses_of(whole_history))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path):
    file = tmp_path / "checkpoint.pt"
    killed = run_python("-c", KILLED, str(file))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert load(file)["iteration"] == 6
    after = run_python("-c", RESUMED, str(file))
    assert after.stdout.split() == ["3", "True", "True"], after.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_finished_run_is_not_trained_again(tmp_path):
    done, history = train(checkpoint=tmp_path / "c.pt", ema_decay=0.9)
    again, same_history = train(TinyDetector(), checkpoint=tmp_path / "c.pt", resume=True, ema_decay=0.9)
    assert same_weights(done, again)
    assert losses_of(history) == losses_of(same_history)


def test_earlier_run_is_not_overwritten_by_accident(tmp_path):
    train(checkpoint=tmp_path / "c.pt")
    with pytest.raises(FileExistsError, match="resume=True"):
        train(checkpoint=tmp_path / "c.pt")


def test_resume_names_changed_settings_and_a_foreign_checkpoint(tmp_path):
    train(checkpoint=tmp_path / "c.pt")
    with pytest.warns(UserWarning, match="learning_rate 0.005 -> 0.01"):
        train(checkpoint=tmp_path / "c.pt", resume=True, learning_rate=0.01)
    with pytest.raises(ValueError, match=r"c\.pt is of another detector: .*head"):
        train(nn.Linear(1, 1), checkpoint=tmp_path / "c.pt", resume=True)
    with pytest.raises(ValueError, match=r"c\.pt was trained with optimizer='sgd'.* start anew"):
        train(checkpoint=tmp_path / "c.pt", resume=True, optimizer="adamw")


def test_checkpoint_from_before_there_were_optimizers_is_gone_on_with(tmp_path):
    file = tmp_path / "c.pt"
    torch.manual_seed(0)
    train(WithBackbone(), checkpoint=file)
    state = load(file)
    for name in ("optimizer", "backbone_lr_factor"):
        del state["settings"][name]
    (group,) = state["optimizer"]["param_groups"]
    del group["factor"]
    save_atomic(state, file)
    with pytest.warns(UserWarning, match="max_iters 12 -> 13"):
        train(WithBackbone(), checkpoint=file, resume=True, max_iters=13)
    with pytest.raises(ValueError, match=r"c\.pt holds 1 groups of weights, not 2: .* \(1, now 0\.1\)"):
        train(WithBackbone(), checkpoint=file, resume=True, max_iters=13, backbone_lr_factor=0.1)


def test_resume_takes_the_rates_that_are_asked_for(tmp_path):
    torch.manual_seed(0)
    train(WithBackbone(), checkpoint=tmp_path / "c.pt", backbone_lr_factor=0.1, weight_decay=0.1)
    asked = {"learning_rate": 0.2, "weight_decay": 0.3, "momentum": 0.4, "backbone_lr_factor": 0.5}
    with pytest.warns(UserWarning, match=r"weight_decay 0\.1 -> 0\.3"):
        train(WithBackbone(), checkpoint=tmp_path / "c.pt", resume=True, max_iters=13, schedule="cosine", **asked)
    backbone, rest = load(tmp_path / "c.pt")["optimizer"]["param_groups"]
    for group, factor in ((backbone, 0.5), (rest, 1.0)):
        assert (group["weight_decay"], group["momentum"], group["factor"]) == (0.3, 0.4, factor)
        assert group["lr"] == pytest.approx(0.2 * factor * learning_rate_factor(12, 13, "cosine"))


def test_interrupt_leaves_a_checkpoint_to_go_on_from(tmp_path):
    file = tmp_path / "c.pt"
    started = threading.Event()

    class Slow(TinyDetector):
        def forward(self, *args, **kwargs):
            started.set()
            time.sleep(0.005)
            return super().forward(*args, **kwargs)

    def press_ctrl_c():
        started.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    with pytest.raises(KeyboardInterrupt):
        train(Slow(), max_iters=100_000, checkpoint=file, checkpoint_period=50_000)
    assert 1 <= load(file)["iteration"] < 100_000


class SlowImages(TinyImages):
    def __getitem__(self, index):
        time.sleep(0.2)
        return super().__getitem__(index)


INTERRUPTED = """
import os, signal, sys, threading, time
from test_train import DataLoader, SlowImages, TinyDetector, train

started = threading.Event()

class Fast(TinyDetector):
    def forward(self, *args, **kwargs):
        started.set()
        return super().forward(*args, **kwargs)

def press_ctrl_c():
    started.wait()
    time.sleep(1)  # by now the loop waits for images
    os.killpg(0, signal.SIGINT)  # as a terminal does: to this process and to those that load

threading.Thread(target=press_ctrl_c, daemon=True).start()
loader = DataLoader(SlowImages(), batch_size=2, num_workers=1)
try:
    train(Fast(), loader, max_iters=100_000, checkpoint=sys.argv[1], checkpoint_period=50_000)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes")
def test_interrupt_of_all_processes_leaves_a_checkpoint_too(tmp_path):
    process = run_python("-c", INTERRUPTED, str(tmp_path / "c.pt"), start_new_session=True)
    assert process.stdout.split() == ["interrupted"], process.stderr
    assert 1 <= load(tmp_path / "c.pt")["iteration"] < 100_000


LEFT = """
from test_train import DataLoader, TinyImages
from helpers.sampling import leave_interrupts_to_the_loop

batches = iter(DataLoader(TinyImages(), batch_size=2, num_workers=2, worker_init_fn=leave_interrupts_to_the_loop))
next(batches)
"""


def test_processes_that_load_end_with_the_training_when_nobody_has_closed_their_loader():
    process = run_python("-c", LEFT)  # it has a time limit
    assert process.returncode == 0, process.stderr


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals that are sent to one thread")
@pytest.mark.parametrize("device", ["cpu", "cuda"])  # only the name matters: the loop computes nothing
def test_interrupt_lets_the_loop_finish_its_step(device):
    saw_the_interrupt = []

    def loop(stop):
        # To this very thread, so that nothing wakes up another one that waits for it.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        deadline = time.monotonic() + 20
        while not stop.is_set() and time.monotonic() < deadline:
            time.sleep(0.01)
        saw_the_interrupt.append(stop.is_set())

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _call_interruptibly(loop, torch.device(device))
    assert saw_the_interrupt == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_order_of_a_shuffling_loader_is_found_again_without_a_seed(tmp_path):
    def run(seed, **options):
        torch.manual_seed(3)
        detector = TinyDetector(dropout=0)  # it must not draw between the loader's draws
        torch.manual_seed(seed)
        loader = tiny_loader(augment=False, shuffle=True)
        train_detector(detector, loader, max_iters=12, seed=None, progress=False, **options)
        return detector

    class Off(Exception):
        pass

    def power_off(history):
        raise Off

    file = tmp_path / "c.pt"
    with pytest.raises(Off):  # after the checkpoint of iteration 4, in the middle of an epoch of 3
        run(4, checkpoint=file, checkpoint_period=4, log_period=5, on_row=power_off)
    assert load(file)["iteration"] == 4
    assert same_weights(run(99, checkpoint=file, resume=True), run(4))


def test_resumed_run_takes_the_new_momentum_and_weight_decay(tmp_path):
    file = tmp_path / "c.pt"
    train(checkpoint=file, max_iters=6)
    with pytest.warns(UserWarning, match="weight_decay 0.0001 -> 0.5, .*momentum 0.9 -> 0.1"):
        train(TinyDetector(), checkpoint=file, resume=True, weight_decay=0.5, momentum=0.1)
    (group,) = load(file)["optimizer"]["param_groups"]
    assert (group["weight_decay"], group["momentum"]) == (0.5, 0.1)


class Breaking(TinyDetector):
    """From the sixth step on one loss is `value`."""

    def __init__(self, value):
        super().__init__()
        self.value, self.calls = value, 0

    def forward(self, *args, **kwargs):
        losses = super().forward(*args, **kwargs)
        self.calls += 1
        return losses | ({"loss_box": losses["loss_box"] * self.value} if self.calls >= 6 else {})


def test_loss_that_is_not_finite_stops_with_all_that_helps(tmp_path):
    file = tmp_path / "c.pt"
    with pytest.raises(NonFiniteLoss, match=r"iteration 6: loss_box = nan. Likely cause: .*division.*c.pt") as caught:
        train(Breaking(float("nan")), checkpoint=file, checkpoint_period=3)
    assert "loss_cls" not in str(caught.value)
    assert load(file)["iteration"] == 3


def test_growing_loss_blames_the_learning_rate():
    class Growing(TinyDetector):
        def forward(self, *args, **kwargs):
            self.growth = getattr(self, "growth", 1e-9) * 1e6
            return {name: loss * self.growth for name, loss in super().forward(*args, **kwargs).items()}

    with pytest.raises(NonFiniteLoss, match=r"learning rate 0.005 is too high.*None was saved"):
        train(Growing())


def test_resumed_run_remembers_how_the_loss_grew(tmp_path):
    class Growing(TinyDetector):
        def forward(self, *args, **kwargs):
            growth = math.inf if self._normalizer == 0 else 10.0 ** int(self.features[1].num_batches_tracked)
            return {name: loss * growth for name, loss in super().forward(*args, **kwargs).items()}

    train(Growing(), max_iters=3, checkpoint=tmp_path / "c.pt")
    broken = Breaking(math.nan)
    broken.calls = 9
    with pytest.warns(UserWarning, match="max_iters"), pytest.raises(NonFiniteLoss, match=r"iteration 4: .* too high"):
        train(broken, max_iters=5, checkpoint=tmp_path / "c.pt", resume=True)


def test_broken_pixels_are_blamed():
    paths, images, gt_boxes = next(iter(tiny_loader()))
    images[0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteLoss, match=r"iteration 1: .*an image of the batch"):
        train(loader=[(paths, images, gt_boxes)])


def plain_run(**settings):
    """A `TrainingRun` without what its options add."""
    off = {"seed": None, "freeze_batchnorm": False, "mixed_precision": False, "ema_decay": None, "clip_grad_norm": None}
    length = {"max_iters": 9, "schedule": "step", "warmup_iters": 0}
    rates = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "backbone_lr_factor": 1.0}
    settings = off | length | rates | settings
    return TrainingRun(TinyDetector(), torch.device("cpu"), settings, log_period=4, channels_last=False)


@pytest.mark.parametrize(("spoilt", "cause"), [(1, "an image of the batch"), (2, "a ground-truth box of the batch")])
def test_batch_that_is_blamed_is_the_one_of_the_loss_although_losses_are_read_later(spoilt, cause):
    batch = next(iter(tiny_loader()))
    bad = [batch[0], batch[1].clone(), batch[2].clone()]
    bad[spoilt][0, 0, 0] = float("nan")
    run = plain_run()
    run.open_loader([batch, bad, batch])
    for _ in range(3):  # as on a GPU, which is asked once in a logging period
        run.step()
    with pytest.raises(NonFiniteLoss, match=rf"iteration 2: .*{cause}"):
        run.collect(force=True)


def test_average_that_begins_with_a_resume_is_of_the_trained_weights(tmp_path):
    detector, _ = train(checkpoint=tmp_path / "c.pt")
    torch.manual_seed(9)
    with pytest.warns(UserWarning, match="ema_decay None -> 0.9"):
        again, _ = train(TinyDetector(), checkpoint=tmp_path / "c.pt", resume=True, ema_decay=0.9)
    assert same_weights(again, detector)


def test_run_goes_on_on_a_gpu_that_computes_in_another_half_precision(tmp_path):
    train(max_iters=3, checkpoint=tmp_path / "c.pt")  # bfloat16 and float32 leave the scaler empty
    run = plain_run()
    run.scaler = torch.amp.GradScaler("cpu", enabled=True)  # of float16
    with pytest.warns(UserWarning, match="other settings"):
        run.load(tmp_path / "c.pt")
    assert run.iteration == 3
    assert run.scaler.get_scale() == torch.amp.GradScaler("cpu", enabled=True).get_scale()


def test_numbers_of_numpy_do_not_spoil_the_checkpoint(tmp_path):
    class WithNumpy(TinyDetector):
        def forward(self, *args, **kwargs):
            losses = super().forward(*args, **kwargs)
            self._normalizer = np.float64(self._normalizer)
            return losses

    options = {"checkpoint": tmp_path / "c.pt", "learning_rate": np.float64(0.01), "warmup_iters": np.int64(2)}
    _, whole = train(WithNumpy(), **options)
    assert load(tmp_path / "c.pt")["settings"]["learning_rate"] == 0.01
    assert losses_of(train(WithNumpy(), resume=True, **options)[1]) == losses_of(whole)


def test_gpu_out_of_memory_says_which_batch_size_to_try():
    class Greedy(TinyDetector):
        def forward(self, *args, **kwargs):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory, match=r"4 images of 32 x 32 .* batch_size=2 \(and learning_rate=0.0025\)"):
        train(Greedy())
    with pytest.raises(
        OutOfMemory, match=r"with 1 image of 32 x 32 .* try smaller images, or fewer channels, or mixed"
    ):
        train(Greedy(), tiny_loader(batch_size=1))
    with pytest.raises(OutOfMemory, match=r"fewer channels$"):
        train(Greedy(), tiny_loader(batch_size=1), mixed_precision=True)


# what is asked for, words of the answer
BAD_OPTIONS = [
    ({"schedule": "cosinus"}, "schedule must be one of step, cosine"),
    ({"checkpoint_period": 0}, "at least 1"),
    ({"resume": True}, "needs checkpoint="),
    ({"max_iters": -1}, "max_iters must not be negative"),
    ({"warmup_iters": -1}, "warmup_iters must not be negative"),
    ({"seed": -1}, "seed must not be negative"),
    ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, not 'adam'"),
    ({"backbone_lr_factor": -0.1}, "backbone_lr_factor must not be negative"),
    ({"backbone_lr_factor": math.nan}, "backbone_lr_factor must not be negative"),
    ({"backbone_lr_factor": 0.1}, r"backbone_lr_factor=0\.1 needs weights in detector\.backbone\.backbone"),
    ({"learning_rate": math.nan}, "learning_rate must be a number that is not negative, not nan"),
    ({"learning_rate": math.inf}, "learning_rate must be a number"),
    ({"weight_decay": -0.1}, "weight_decay must be a number that is not negative"),
    ({"clip_grad_norm": 0.0}, "clip_grad_norm must be above 0"),  # would train nothing
    ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1"),
    ({"ema_decay": 1.5}, "ema_decay must be at least 0 and below 1"),
    ({"loader": DataLoader([], batch_size=2)}, "empty"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)


def test_frozen_batchnorm_keeps_its_statistics():
    torch.manual_seed(0)
    detector = TinyDetector()
    mean = detector.features[1].running_mean.clone()
    weight = detector.features[1].weight.clone()
    train(detector, freeze_batchnorm=True)
    assert torch.equal(detector.features[1].running_mean, mean)
    assert not torch.equal(detector.features[1].weight, weight)


def test_moving_average_ends_in_the_detector(tmp_path):
    averaged, _ = train(ema_decay=0.9, checkpoint=tmp_path / "c.pt")
    raw, _ = train()
    content = load(tmp_path / "c.pt")
    assert torch.equal(content["model"]["head.weight"], raw.head.weight)
    assert torch.equal(content["average"]["module.head.weight"], averaged.head.weight)
    assert not torch.equal(raw.head.weight, averaged.head.weight)


def test_moving_average_forgets_its_start_faster_and_never_moves_its_count():
    module = nn.BatchNorm1d(1)
    average = _MovingAverage(module, decay=0.99)
    average.n_averaged.to = None  # copying the count to a GPU would wait for the GPU
    for weight in (0.0, 11.0, 21.0):  # taken as it is; then by 9 / 11, which makes 9; then by 9 / 12 of the way to 21
        nn.init.constant_(module.weight, weight)
        module.num_batches_tracked += 1
        average.update_parameters(module)
    assert average.module.weight.item() == pytest.approx(18)
    assert average.module.num_batches_tracked == average.n_averaged == 3


def test_channels_last_trains_the_same():
    torch.manual_seed(0)
    one = TinyDetector(dropout=0)  # the mask of dropout follows the layout in memory
    other = copy.deepcopy(one)
    train(one, channels_last=True)
    train(other)
    for a, b in zip(one.parameters(), other.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_channels_last_is_the_layout_of_weights_and_images():
    seen = []

    class Looking(TinyDetector):
        def forward(self, images, *args, **kwargs):
            layout = {"memory_format": torch.channels_last}
            seen.append((images.is_contiguous(**layout), self.features[0].weight.is_contiguous(**layout)))
            return super().forward(images, *args, **kwargs)

    for channels_last in (True, False):
        train(Looking(), max_iters=1, channels_last=channels_last)
    assert seen == [(True, True), (False, False)]


def test_mixed_precision_computes_in_half_precision_and_keeps_weights_whole():
    seen = []

    class Looking(TinyDetector):
        def forward(self, images, *args, **kwargs):
            seen.append(self.features[0](images).dtype)
            return super().forward(images, *args, **kwargs)

    for mixed_precision in (True, False):
        detector, _ = train(Looking(), max_iters=1, mixed_precision=mixed_precision)
    assert seen == [torch.bfloat16, torch.float32]
    assert detector.head.weight.dtype == torch.float32


@pytest.mark.parametrize("norm", [None, 0.01])
def test_gradient_is_clipped_to_its_norm(norm):
    torch.manual_seed(0)
    ours, plain = TinyDetector(dropout=0), TinyDetector(dropout=0)
    plain.load_state_dict(ours.state_dict())
    batch = next(iter(tiny_loader(augment=False)))
    train_detector(ours, [batch], 0.1, 0.0, max_iters=1, clip_grad_norm=norm, progress=False)
    sum(plain.train()(batch[1], batch[2]).values()).backward()
    whole = torch.cat([weight.grad.flatten() for weight in plain.parameters()]).norm()
    assert whole > 0.1
    share = 1 if norm is None else norm / whole
    for before, after in zip(plain.parameters(), ours.parameters()):
        torch.testing.assert_close(after, before - 0.1 * share * before.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("period", [3, 100])  # a checkpoint two iterations before the kill, and none
def test_tensorboard_log_holds_every_row_once_after_a_kill(period, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    class Off(Exception):
        pass

    def power_off(history):
        if history.column("iteration")[-1] == 8:
            raise Off

    options = {"tensorboard": tmp_path / "log", "checkpoint": tmp_path / "c.pt", "checkpoint_period": period}
    with pytest.raises(Off):
        train(on_row=power_off, **options)
    _, history = train(resume=True, **options)
    log = accumulator.EventAccumulator(str(tmp_path / "log"))
    log.Reload()
    for name in ("loss_box", "learning_rate"):
        points = log.Scalars(name)
        assert [point.step for point in points] == history.column("iteration") == [4, 8, 12]
        assert [point.value for point in points] == pytest.approx(history.column(name), rel=1e-6)


def test_bar_shows_losses_and_memory(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)  # an imported package alone makes no notebook of a terminal
    train_detector(TinyDetector(), tiny_loader(), max_iters=4, log_period=2)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "it/s" in shown
    assert "cls" in shown
    assert "GiB" in shown


# --- the parts --------------------------------------------------------------------------------------------------------


def test_history_survives_its_file(tmp_path):
    _, history = train()
    history.save(tmp_path / "logs" / "history.jsonl")
    assert History.load(tmp_path / "logs" / "history.jsonl") == history
    first = json.loads((tmp_path / "logs" / "history.jsonl").read_text().splitlines()[0])
    assert first["iteration"] == 4


def test_history_plots_all_losses_and_refuses_unknown_columns():
    _, history = train()
    figure = history.plot()
    assert [line.get_label() for line in figure.axes[0].lines] == ["loss_cls", "loss_box", "loss_ctr", "loss"]
    assert History().plot().axes
    with pytest.raises(KeyError, match=r"loss_mask.*loss_cls"):
        history.column("loss_mask")


def test_broken_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"c\.pt"):
        load(tmp_path / "c.pt")
    save_atomic({"iteration": 1}, tmp_path / "c.pt")
    whole = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"c\.pt is not a checkpoint .* delete it to start anew"):
        load(tmp_path / "c.pt")
    (tmp_path / "c.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"c\.pt is not a checkpoint"):
        load(tmp_path / "c.pt")
    torch.save(TinyDetector().state_dict(), tmp_path / "c.pt")
    with pytest.raises(ValueError, match="no checkpoint of a training run, it lacks iteration, model, optimizer, sett"):
        train(checkpoint=tmp_path / "c.pt", resume=True)


def test_part_of_a_checkpoint_that_a_killed_process_left_is_removed_when_it_is_old(tmp_path):
    old, new = (tmp_path / f".c.pt.{pid}.part" for pid in (1, 2))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3 * 24 * 3600,) * 2)
    save_atomic({}, tmp_path / "c.pt")
    assert {path.name for path in tmp_path.iterdir()} == {"c.pt", new.name}


def test_failed_save_keeps_the_file_before(tmp_path):
    save_atomic({"iteration": 1}, tmp_path / "c.pt")
    with pytest.raises(Exception, match="pickle"):
        save_atomic({"iteration": lambda: 2}, tmp_path / "c.pt")
    assert load(tmp_path / "c.pt") == {"iteration": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_denormals_are_zero_inside_and_only_there():
    values = torch.full((1_000_000,), 1e-39)  # enough for PyTorch to use all its threads
    if call_without_denormals(lambda stop: (values * 2).view(torch.int32)).any():
        pytest.skip("this CPU cannot round denormal numbers to zero")
    assert (values * 2).view(torch.int32).all()
    with pytest.raises(ZeroDivisionError):
        call_without_denormals(lambda stop: 1 / 0)


def test_processes_without_a_seed_would_all_get_the_same_batches():
    run = plain_run()
    run.world_size = 2
    with pytest.raises(ValueError, match="with a seed"):
        run.open_loader(tiny_loader())


def train_in_parts(folder):
    """What each process of the next test runs: the joint batch is 4 images, however many processes share it."""
    torch.manual_seed(3)
    detector = TinyDetector(dropout=0)
    detector.features[1] = nn.Identity()  # a batch norm sees its own part of the batch only
    with torchrun_group() as device:
        rank, world_size = rank_and_world_size()
        loader = tiny_loader(batch_size=4 // world_size)
        file = folder / f"of{world_size}.pt"
        _, history = train(detector, loader, max_iters=8, learning_rate=0.05, device=device, checkpoint=file)
    torch.save((detector.state_dict(), detector._normalizer, history.column("loss")), folder / f"{rank}of{world_size}")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_processes_train_like_one_with_their_joint_batch(tmp_path):
    train_in_parts(tmp_path)
    script = tmp_path / "script.py"
    script.write_text("import pathlib, test_train\ntest_train.train_in_parts(pathlib.Path(__file__).parent)\n")
    process = run_python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script)
    assert process.returncode == 0, process.stderr
    one, first, second = (torch.load(tmp_path / name) for name in ("0of1", "0of2", "1of2"))
    for name, value in one[0].items():
        assert torch.equal(first[0][name], second[0][name])
        # Not bit for bit: in its own step each process divides by its own moving average.
        torch.testing.assert_close(first[0][name], value, rtol=1e-4, atol=1e-5)
    assert first[1] == second[1] == pytest.approx(one[1])
    assert first[2] == second[2] == pytest.approx(one[2], rel=1e-4)
    assert load(tmp_path / "of2.pt")["iteration"] == 8
