"""What does a training step cost? Against the same step written plainly, and against torchvision's own FCOS.

    python benchmarks/step.py [--json FILE] [--batch N] [--rounds N] [--backbone NAME]

RegNetX-400MF with random weights, P3 to P5 with 64 channels, stems of two convolutions, 224 x 224 pixels, SGD; one
batch, again and again.
"plain" is NCHW, with the boxes of each image matched in a loop as the original assignment does it. "torchvision" is
`torchvision.models.detection.FCOS` with the same backbone, channels, levels and number of convolutions; it normalises
its heads and regresses IoU, so its losses are others. "matching and losses" is what is left of our step when the
networks are taken out: locations, matching, targets, losses and their gradients. "mixed precision" is our step with
bfloat16 where that is safe, which pays on processors that multiply it in hardware (AMX, AVX512-BF16) and rounds the
losses. Rounds go side by side, so a slow minute of the machine slows all. --backbone takes another network, such as
mobilenet_v2.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "solutions")]

import one_stage_detector as osd
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead

from helpers.allocator import kept_memory
from helpers.denormals import call_without_denormals
from helpers.training_run import TrainingRun

SIZE, CLASSES, CHANNELS, STEMS, BOXES, STEPS = 224, 20, 64, [64, 64], 40, 4
SETTINGS = {
    "optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 1e-4, "backbone_lr_factor": 1.0,
    "mixed_precision": False, "ema_decay": None, "freeze_batchnorm": False, "seed": None, "max_iters": 10**6,
    "schedule": "step", "warmup_iters": 0, "clip_grad_norm": None,
}  # fmt: skip


def match_in_a_loop(locations, strides, gt_boxes, match=osd.fcos_match_locations_to_gt):
    """`fcos_match_locations_to_gt` for a batch, one image at a time."""
    matched = [match(locations, strides, boxes) for boxes in gt_boxes]
    return {level: torch.stack([one[level] for one in matched]) for level in locations}


class NoNetwork(nn.Module):
    """Stands where a network was: returns what it once returned, so that only the rest of the step is left."""

    def __init__(self, output, strides=None):
        super().__init__()
        self.output, self.fpn_strides = output, strides

    def forward(self, _):
        """Return it."""
        return self.output


def make_batch(batch_size):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, SIZE, SIZE, generator=generator)
    boxes = torch.full((batch_size, BOXES, 5), -1.0)
    for image in boxes:
        count = int(torch.randint(1, 5, (), generator=generator))  # VOC2007 has 2.5 objects in an image
        corner = torch.rand(count, 2, generator=generator) * 150
        side = 20 + torch.rand(count, 2, generator=generator) * 50
        classes = torch.randint(0, CLASSES, (count, 1), generator=generator).float()
        image[:count] = torch.cat([corner, corner + side, classes], dim=1)
    return images, boxes


def ours(detector, images, boxes, **settings):
    run = TrainingRun(detector, torch.device("cpu"), SETTINGS | settings, log_period=1000, channels_last=True)
    run.open_loader([(None, images, boxes)])
    return run.step, lambda: run.unread[0]


def plainly(detector, images, boxes):
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    first = {}

    def step():
        batched, osd.fcos_match_locations_to_gt = osd.fcos_match_locations_to_gt, match_in_a_loop
        losses = detector(images, boxes)
        osd.fcos_match_locations_to_gt = batched
        first.update({name: loss.detach() for name, loss in losses.items()} if not first else {})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return step, lambda: first


def torchvision_step(backbone, images, boxes):
    backbone.out_channels = CHANNELS
    anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    head = FCOSHead(CHANNELS, 1, CLASSES, num_convs=len(STEMS))
    model = detection.FCOS(backbone, CLASSES, min_size=SIZE, max_size=SIZE, anchor_generator=anchors, head=head)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    present = [rows[rows[:, 4] >= 0] for rows in boxes]
    targets = [{"boxes": rows[:, :4], "labels": rows[:, 4].long()} for rows in present]

    def step():
        losses = model(list(images), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return step


def without_networks(detector, images, boxes):
    """The step of a detector whose backbone and head have already answered."""
    features = detector.backbone(images)
    outputs = [{level: value.detach() for level, value in kind.items()} for kind in detector.pred_net(features)]
    detector.backbone, detector.pred_net = NoNetwork(features, detector.backbone.fpn_strides), NoNetwork(outputs)
    leaves = [value.requires_grad_() for kind in outputs for value in kind.values()]

    def step():
        torch.autograd.grad(sum(detector(images, boxes).values()), leaves)

    return step


def seconds(step):
    """Of one step, when the first has been done: it builds up what the others find."""
    step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - start) / STEPS


def seconds_in_our_loop(step):
    """The same in the surroundings that `train_detector` gives it."""
    with kept_memory():
        return call_without_denormals(lambda _: seconds(step))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="regnet_x_400mf")
    args = parser.parse_args()

    torch.manual_seed(0)
    detector = osd.FCOS(CLASSES, CHANNELS, STEMS, weights=None, backbone=args.backbone).train()
    images, boxes = make_batch(args.batch)
    our_step, our_losses = ours(copy.deepcopy(detector), images, boxes)
    half_step, half_losses = ours(copy.deepcopy(detector), images, boxes, mixed_precision=True)
    plain_step, plain_losses = plainly(copy.deepcopy(detector), images, boxes)
    steps = {
        "ours": partial(seconds_in_our_loop, our_step),
        "mixed precision": partial(seconds_in_our_loop, half_step),
        "plain": partial(seconds, plain_step),
        "torchvision": partial(seconds, torchvision_step(copy.deepcopy(detector.backbone), images, boxes)),
        "matching and losses": partial(seconds, without_networks(copy.deepcopy(detector), images, boxes)),
    }
    times = {name: [] for name in steps}
    for turn in range(args.rounds + 1):
        for name, measure in steps.items():
            taken = measure()
            if turn > 0:  # the first round warms up
                times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    difference, half_difference = (
        max(abs(float(losses()[name] - value)) for name, value in plain_losses().items())
        for losses in (our_losses, half_losses)
    )
    ratios = {
        "plain_over_ours": medians["plain"] / medians["ours"],
        "plain_over_mixed_precision": medians["plain"] / medians["mixed precision"],
        "ours_over_torchvision": medians["ours"] / medians["torchvision"],
        "matching_and_losses_share": medians["matching and losses"] / medians["ours"],
    }
    for name, value in medians.items():
        print(f"{name:20} {value * 1000:7.0f} ms a step   {value / medians['ours']:5.2f} x ours")
    print(f"plain / ours {ratios['plain_over_ours']:.2f}, / mixed precision {ratios['plain_over_mixed_precision']:.2f}")
    print(f"largest difference of a loss, first step: ours {difference:.1e}, mixed precision {half_difference:.1e}")
    if difference > 1e-4:
        sys.exit("the two steps do not compute the same losses")
    if args.json:
        args.json.write_text(json.dumps({"ratios": ratios, "loss_difference": difference, "seconds": medians}) + "\n")


if __name__ == "__main__":
    main()
