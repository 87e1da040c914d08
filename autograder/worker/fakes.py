"""Small stand-ins for the network parts of other tasks. They can be trained, and hold nothing that a task asks for."""

import torch
from torch import nn
from torch.nn import functional as F

STRIDES = {"p3": 8, "p4": 16, "p5": 32}


class _Fake(nn.Module):
    """A fake can also be put inside a submission's own class, so that references to that class find the fake."""

    METHODS = ("__init__", "forward")

    @classmethod
    def install(cls, target: type) -> None:
        """Give `target`, a class of the submission, this fake's behaviour."""
        if not issubclass(target, nn.Module):
            raise TypeError
        for name in cls.METHODS:
            setattr(target, name, vars(cls)[name])


class FakeBackbone(_Fake):
    """Features of the right shapes: each level is one convolution of non-overlapping patches of what is finer."""

    METHODS = ("__init__", "forward", "fpn_strides")

    def __init__(self, out_channels, *args, **kwargs):
        nn.Module.__init__(self)
        self.out_channels = out_channels
        self.built_with = {"out_channels": out_channels}
        self.fpn_params = nn.ModuleDict()
        self.backbone = nn.Identity()
        self.patches = nn.ModuleDict(
            {
                "p3": nn.Conv2d(3, out_channels, 8, stride=8),
                "p4": nn.Conv2d(out_channels, out_channels, 2, stride=2),
                "p5": nn.Conv2d(out_channels, out_channels, 2, stride=2),
            }
        )

    @property
    def fpn_strides(self):
        """As the contract says."""
        return dict(STRIDES)

    def forward(self, images):
        """(B, 3, H, W) -> {"p3": (B, C, H/8, W/8), ...}."""
        features, current = {}, images
        for level, convolution in self.patches.to(images.dtype).items():
            features[level] = current = convolution(current).relu()
        return features


class FakeHead(_Fake):
    """A head that returns what the probe prepared, whatever the features are, or linear functions of 3x3 windows.

    `script` holds one [class, box, centerness] triple of dicts for each forward pass to come; the last one stays.
    """

    script: tuple = ()

    def __init__(self, num_classes=None, in_channels=None, stem_channels=None, *args, **kwargs):
        nn.Module.__init__(self)
        self.num_classes, self.in_channels, self.stem_channels = num_classes, in_channels, stem_channels
        stems = list(stem_channels) if isinstance(stem_channels, (list, tuple)) else stem_channels
        self.built_with = {"num_classes": num_classes, "in_channels": in_channels, "stem_channels": stems}
        # The parts that the contract names: a detector may set their biases once more, which is right and changes
        # nothing that is prepared.
        for name in ("stem_cls", "stem_box"):
            setattr(self, name, nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()))
        window = 9 * in_channels if isinstance(in_channels, int) else 1
        for name, size in (("pred_cls", num_classes), ("pred_box", 4), ("pred_ctr", 1)):
            setattr(self, name, nn.Linear(window, size if isinstance(size, int) else 1))
        nn.init.constant_(self.pred_cls.bias, -4.0)  # most locations are background

    def forward(self, feats_per_fpn_level):
        """Return the next prepared triple, or predictions when nothing is prepared."""
        if not FakeHead.script:
            windows = {level: F.unfold(feats, 3, padding=1).mT for level, feats in feats_per_fpn_level.items()}
            predictions = (self.pred_cls, self.pred_box, self.pred_ctr)
            return [{level: linear(window) for level, window in windows.items()} for linear in predictions]
        outputs, *rest = FakeHead.script
        FakeHead.script = rest or [outputs]
        for level, class_logits in outputs[0].items():
            height, width = feats_per_fpn_level[level].shape[-2:]
            if height * width != class_logits.shape[1]:
                raise ValueError(
                    f"the head was given {level} features of size {height} x {width}; the images give "
                    f"{class_logits.shape[1]} locations"
                )
        # Copies, as a network's output is nobody's leaf: what is written into it in place is still differentiated.
        return [{level: value.clone() for level, value in output.items()} for output in outputs]


class DetectorByRequest(nn.Module):
    """A submission's networks without its `FCOS`: the trusted side computes the losses and their gradients.

    Args:
        backbone, pred_net: of the submission, or fakes.
        ask: function (images, gt_boxes, predictions) -> {"losses", "gradients"}, answered by the trusted side.
    """

    def __init__(self, backbone, pred_net, ask):
        super().__init__()
        self.backbone, self.pred_net, self.ask = backbone, pred_net, ask

    def forward(self, images, gt_boxes):
        """Return the three losses in a dict, as `FCOS` does in train mode."""
        predictions = self.pred_net(self.backbone(images))
        levels = list(predictions[0])
        flat = [kind[level] for kind in predictions for level in levels]
        losses = _LossesByRequest.apply(self.ask, images, gt_boxes, levels, *flat)
        return dict(zip(("loss_cls", "loss_box", "loss_ctr"), losses, strict=True))


class _LossesByRequest(torch.autograd.Function):
    """Three losses of the class logits, the deltas and the centerness logits of all levels, in this order."""

    @staticmethod
    def forward(ctx, ask, images, gt_boxes, levels, *flat):
        count = len(levels)
        kinds = [dict(zip(levels, flat[i : i + count], strict=True)) for i in range(0, 3 * count, count)]
        answer = ask(images=images, gt_boxes=gt_boxes, predictions=kinds)
        ctx.save_for_backward(*(gradients[level] for gradients in answer["gradients"] for level in levels))
        return tuple(answer["losses"])

    @staticmethod
    def backward(ctx, *outer):
        per_loss = len(ctx.saved_tensors) // 3
        inner = [gradient * outer[i // per_loss] for i, gradient in enumerate(ctx.saved_tensors)]
        return (None, None, None, None, *inner)


FAKES = {
    "common.DetectorBackboneWithFPN": FakeBackbone,
    "one_stage_detector.FCOSPredictionNetwork": FakeHead,
}
