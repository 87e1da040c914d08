"""Small stand-ins for the network parts of other tasks. They compute nothing that a task asks for."""

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
    """Features of the right shapes: image brightness at each stride, repeated over `out_channels`."""

    METHODS = ("__init__", "forward", "fpn_strides")

    def __init__(self, out_channels, *args, **kwargs):
        nn.Module.__init__(self)
        self.out_channels = out_channels
        self.fpn_params = nn.ModuleDict()
        self.backbone = nn.Identity()
        self.gain = nn.Parameter(torch.ones(()))

    @property
    def fpn_strides(self):
        """As the contract says."""
        return dict(STRIDES)

    def forward(self, images):
        """(B, 3, H, W) -> {"p3": (B, C, H/8, W/8), ...}."""
        brightness = images.mean(dim=1, keepdim=True) * self.gain.to(images)
        return {
            level: F.avg_pool2d(brightness, stride).expand(-1, self.out_channels, -1, -1)
            for level, stride in STRIDES.items()
        }


class FakeHead(_Fake):
    """A head that returns what the probe prepared, whatever the features are.

    `script` holds one [class, box, centerness] triple of dicts for each forward pass to come; the last one stays.
    """

    script: tuple = ()

    def __init__(self, num_classes=None, in_channels=None, stem_channels=None, *args, **kwargs):
        nn.Module.__init__(self)
        self.num_classes, self.in_channels, self.stem_channels = num_classes, in_channels, stem_channels
        self.gain = nn.Parameter(torch.ones(()))
        # The parts that the contract names: a detector may set their biases once more, which is right and changes
        # nothing.
        for name in ("stem_cls", "stem_box"):
            setattr(self, name, nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()))
        for name in ("pred_cls", "pred_box", "pred_ctr"):
            setattr(self, name, nn.Conv2d(1, 1, 1))

    def forward(self, feats_per_fpn_level):
        """Return the next prepared triple."""
        outputs, *rest = FakeHead.script
        FakeHead.script = rest or [outputs]
        for level, class_logits in outputs[0].items():
            height, width = feats_per_fpn_level[level].shape[-2:]
            if height * width != class_logits.shape[1]:
                raise ValueError(
                    f"the head was given {level} features of size {height} x {width}; the images give "
                    f"{class_logits.shape[1]} locations"
                )
        return [dict(output) for output in outputs]


FAKES = {
    "common.DetectorBackboneWithFPN": FakeBackbone,
    "one_stage_detector.FCOSPredictionNetwork": FakeHead,
}
