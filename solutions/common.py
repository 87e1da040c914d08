"""Parts that any one-stage detector needs: a backbone with a feature pyramid, location coordinates, and NMS.

Letters in every shape: B images, C channels, H and W rows and columns, N boxes or predictions, K classes.
Boxes are (x1, y1, x2, y2) in pixels of the input image: x runs along columns, y along rows.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import feature_extraction


def hello_common():
    """Print a greeting, so that the notebook can tell that it imports this file."""
    print("Hello from common.py!")


# Where each backbone's features have stride 8, 16 and 32: the inputs c3, c4, c5 of the feature pyramid.
_REGNET_NODES = {"trunk_output.block2": "c3", "trunk_output.block3": "c4", "trunk_output.block4": "c5"}
_RESNET_NODES = {"layer2": "c3", "layer3": "c4", "layer4": "c5"}
BACKBONE_NODES = {
    "regnet_x_400mf": _REGNET_NODES,
    "regnet_y_400mf": _REGNET_NODES,
    "mobilenet_v2": {"features.6": "c3", "features.13": "c4", "features.17": "c5"},
    "resnet18": _RESNET_NODES,
    "resnet50": _RESNET_NODES,
}


def load_backbone(name, weights="DEFAULT"):
    """Build a torchvision classification network whose features the pyramid will read.

    Args:
        name: one of `BACKBONE_NODES`.
        weights: "DEFAULT" for ImageNet weights (downloaded once, then cached), `None` for random weights, or the path
            of a state dict saved with `torch.save`.

    Returns:
        The network, an `nn.Module`.

    Raises:
        ValueError: the name is not known.
        FileNotFoundError: `weights` is a path where no file lies.
        RuntimeError: the ImageNet weights can be neither found nor downloaded; the message lists the remedies.
    """
    if name not in BACKBONE_NODES:
        raise ValueError(f"unknown backbone {name!r}; choose one of {', '.join(BACKBONE_NODES)}")
    if weights is None:
        return models.get_model(name, weights=None)
    if weights != "DEFAULT":
        if not Path(weights).is_file():
            raise FileNotFoundError(f"no backbone weights at {weights}")
        network = models.get_model(name, weights=None)
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return network
    try:
        return models.get_model(name, weights="DEFAULT")
    except OSError as error:  # URLError and every socket error are OSErrors
        raise RuntimeError(
            f"The ImageNet weights of {name} could not be downloaded ({error}). Either connect to the internet and run "
            f"this again (once is enough: they are kept in {torch.hub.get_dir()}), or pass weights='/path/to/file.pth' "
            "with a state dict that you already have, or pass weights=None to start from random weights."
        ) from error


class DetectorBackboneWithFPN(nn.Module):
    """A convolutional backbone with a feature pyramid on top (FPN, https://arxiv.org/abs/1612.03144, section 3).

    The backbone turns images (B, 3, H, W) into c3, c4, c5 with strides 8, 16, 32, each with its own number of channels.
    The pyramid turns those into p3, p4, p5: same strides, all with `out_channels`, and every level has seen the coarser
    ones.

    Args:
        out_channels: channels of p3, p4 and p5.
        weights: of the backbone: "DEFAULT" (ImageNet), `None` (random), or a path; see `load_backbone`.
        backbone: name of a torchvision network; see `BACKBONE_NODES`.

    Attributes:
        out_channels: as given.
        backbone: feature extractor, images -> {"c3", "c4", "c5"}.
        fpn_params: `nn.ModuleDict` with three 1x1 lateral and three 3x3 output convolutions; name its keys as you like.
        fpn_strides: {"p3": 8, "p4": 16, "p5": 32}.
    """

    def __init__(self, out_channels, weights="DEFAULT", backbone="regnet_x_400mf"):
        super().__init__()
        self.out_channels = out_channels
        self.backbone = feature_extraction.create_feature_extractor(
            load_backbone(backbone, weights), return_nodes=BACKBONE_NODES[backbone]
        )
        # One small image tells the channels of c3, c4 and c5; in eval mode batch norm does not learn from it.
        with torch.no_grad():
            features = self.backbone.eval()(torch.zeros(1, 3, 64, 64))
        self.backbone.train()
        channels = {level: feature.shape[1] for level, feature in features.items()}
        self.fpn_params = nn.ModuleDict()
        # BEGIN SOLUTION 1.1
        #: Fill `self.fpn_params` with six convolutions: for each level a lateral 1x1 convolution from `channels["c3"]`
        #: (c4, c5) to `out_channels`, and an output 3x3 convolution (padding 1) from `out_channels` to `out_channels`.
        for level in ("3", "4", "5"):
            self.fpn_params["lateral" + level] = nn.Conv2d(channels["c" + level], out_channels, kernel_size=1)
            self.fpn_params["output" + level] = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        # END SOLUTION 1.1

    @property
    def fpn_strides(self):
        """Pixels of the input image from one location to the next, for each level."""
        return {"p3": 8, "p4": 16, "p5": 32}

    def forward(self, images):
        """Compute the pyramid's features.

        Args:
            images: (B, 3, H, W), normalised as the backbone expects.

        Returns:
            {"p3": (B, C, H/8, W/8), "p4": (B, C, H/16, W/16), "p5": (B, C, H/32, W/32)} with C = out_channels.

        Source: FPN, section 3 and figure 3.
        """
        features = self.backbone(images)
        # BEGIN SOLUTION 1.1
        #: Bring c5, c4, c3 to `out_channels` with the lateral convolutions. Going from coarse to fine, add to each
        #: level the merged map of the level above, upsampled to its size with nearest neighbours. Last, send each
        #: merged map through its output convolution. Return a dict with keys p3, p4, p5.
        # Lateral connection: a 1x1 convolution brings every level to the same number of channels.
        lateral3 = self.fpn_params["lateral3"](features["c3"])
        lateral4 = self.fpn_params["lateral4"](features["c4"])
        lateral5 = self.fpn_params["lateral5"](features["c5"])
        # Top-down pathway: coarse levels know what is there, fine levels know where; the sum knows both.
        merged5 = lateral5
        merged4 = lateral4 + F.interpolate(merged5, size=lateral4.shape[-2:], mode="nearest")
        merged3 = lateral3 + F.interpolate(merged4, size=lateral3.shape[-2:], mode="nearest")
        # A 3x3 convolution on each merged map removes the blockiness of upsampling.
        return {
            "p3": self.fpn_params["output3"](merged3),
            "p4": self.fpn_params["output4"](merged4),
            "p5": self.fpn_params["output5"](merged5),
        }
        # END SOLUTION 1.1


def get_fpn_location_coords(shape_per_fpn_level, strides_per_fpn_level, dtype=torch.float32, device="cpu"):
    """Compute where in the image the locations of each pyramid level lie.

    Location k of a level is the centre of the cell in row k // W and column k % W, the order in which
    `features.flatten(2)` lists them.

    Args:
        shape_per_fpn_level: {"p3": (B, C, H, W), ...}, shapes of the features.
        strides_per_fpn_level: {"p3": 8, ...}.
        dtype, device: of the coordinates.

    Returns:
        {"p3": (H*W, 2), ...}: (x, y) in pixels.

    Source: FCOS, section 3.1: (floor(s/2) + x*s, floor(s/2) + y*s).
    """
    location_coords = {}
    for level_name, shape in shape_per_fpn_level.items():
        stride = strides_per_fpn_level[level_name]
        # BEGIN SOLUTION 1.2
        #: Set `location_coords[level_name]` to the (H*W, 2) centres of the cells: x = stride * (column + 0.5) and
        #: y = stride * (row + 0.5), row by row. For p3 that begins (4, 4), (12, 4), (20, 4), ...
        height, width = shape[-2:]
        # Computed in float32 and cast once: half precision cannot count cells exactly.
        x = stride * (torch.arange(width, device=device, dtype=torch.float32) + 0.5)  # (W,)
        y = stride * (torch.arange(height, device=device, dtype=torch.float32) + 0.5)  # (H,)
        # Row by row: x changes fastest.
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")  # (H, W) each
        location_coords[level_name] = torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2).to(dtype)  # (H*W, 2)
        # END SOLUTION 1.2
    return location_coords


def nms(boxes, scores, iou_threshold=0.5):
    """Keep the best box of each group of boxes that overlap (greedy non-maximum suppression).

    Args:
        boxes: (N, 4), x1 < x2 and y1 < y2, pixels.
        scores: (N,).
        iou_threshold: a box is removed when its IoU with a kept box of higher score is greater than this.

    Returns:
        (N_keep,) int64: indices of the kept boxes, highest score first; empty for N = 0.
    """
    # BEGIN SOLUTION 4.1
    #: Take boxes from the highest score down. Keep a box, remove all others whose IoU with it is greater than
    #: `iou_threshold`, and go on with what is left. Compute one box against all the others at once: a Python loop over
    #: pairs takes minutes on 5000 boxes. `torchvision.ops.nms` is for comparing with, not for calling here.
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)  # (N,)
    candidates = scores.argsort(descending=True, stable=True)  # (N,)
    keep = []
    # Greedy by definition: whether a box stays depends on those kept before it, so this loop stays in Python.
    while candidates.numel() > 0:
        best, rest = candidates[0], candidates[1:]
        keep.append(best)
        top_left = torch.maximum(boxes[best, :2], boxes[rest, :2])  # (N_rest, 2)
        bottom_right = torch.minimum(boxes[best, 2:], boxes[rest, 2:])  # (N_rest, 2)
        intersection = (bottom_right - top_left).clamp(min=0).prod(dim=1)  # (N_rest,)
        iou = intersection / (areas[best] + areas[rest] - intersection)
        candidates = rest[~(iou > iou_threshold)]
    return torch.stack(keep) if keep else torch.empty(0, dtype=torch.int64, device=boxes.device)
    # END SOLUTION 4.1


def class_spec_nms(boxes, scores, class_ids, iou_threshold=0.5):
    """Run NMS on each class by itself: a person never suppresses the horse below.

    Args:
        boxes: (N, 4), pixels.
        scores: (N,).
        class_ids: (N,), integers.
        iou_threshold: as in `nms`.

    Returns:
        (N_keep,) int64: indices of the kept boxes of all classes, highest score first.
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    # Boxes of different classes are moved so far apart that they cannot overlap; then one NMS serves all classes.
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))  # half precision cannot hold such coordinates
    spread = boxes.max() - boxes.min() + 1
    shifted = boxes + (class_ids.to(boxes) * spread)[:, None]
    return nms(shifted, scores, iou_threshold)
