"""FCOS, a fully convolutional one-stage detector without anchor boxes (https://arxiv.org/abs/1904.01355).

Letters in every shape: B images, C channels, H and W rows and columns of one level, L = H * W its locations,
N locations of all levels together or predictions, M ground-truth boxes, K classes.
Boxes are (x1, y1, x2, y2) in pixels; a fifth column holds the class; rows of -1 are padding or background.
Deltas are LTRB, the distances from a location to the left, top, right and bottom side of a box, in units of the stride.
"""

import math

import torch
from common import DetectorBackboneWithFPN, class_spec_nms, get_fpn_location_coords
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss


def hello_one_stage_detector():
    """Print a greeting, so that the notebook can tell that it imports this file."""
    print("Hello from one_stage_detector.py!")


class FCOSPredictionNetwork(nn.Module):
    """The head of FCOS: the same few convolutions slide over every level and predict three things at each location.

    Two stems of (3x3 convolution, ReLU) pairs: `stem_cls` is read by `pred_cls` (class logits), `stem_box` by
    `pred_box` (LTRB deltas) and `pred_ctr` (centerness logit).

    Args:
        num_classes: K.
        in_channels: channels of the pyramid's features.
        stem_channels: output channels of each convolution of a stem, in order; both stems have the same.

    Source: FCOS, figure 2 and section 3.1; initialisation: RetinaNet (https://arxiv.org/abs/1708.02002, section 4.1).
    """

    def __init__(self, num_classes, in_channels, stem_channels):
        super().__init__()
        # BEGIN SOLUTION 2.1
        #: Build `self.stem_cls` and `self.stem_box` (`nn.Sequential`: for each entry of `stem_channels` a 3x3
        #: convolution with padding 1, then a ReLU), and the 3x3 convolutions `self.pred_cls` (K channels),
        #: `self.pred_box` (4) and `self.pred_ctr` (1). Draw the weights of all convolutions from N(0, 0.01), set their
        #: biases to 0, then every bias of `pred_cls` to -log(99).
        self.stem_cls, self.stem_box = nn.Sequential(), nn.Sequential()
        for stem in (self.stem_cls, self.stem_box):
            for channels_in, channels_out in zip([in_channels, *stem_channels], stem_channels, strict=False):
                stem.extend([nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1), nn.ReLU()])
        self.pred_cls = nn.Conv2d(stem_channels[-1], num_classes, kernel_size=3, padding=1)
        self.pred_box = nn.Conv2d(stem_channels[-1], 4, kernel_size=3, padding=1)
        self.pred_ctr = nn.Conv2d(stem_channels[-1], 1, kernel_size=3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, mean=0.0, std=0.01)
                nn.init.zeros_(module.bias)
        # At the start every class has probability 0.01, since sigmoid(-log(99)) = 0.01: nearly all locations are
        # background, and an undecided network would drown in their loss.
        nn.init.constant_(self.pred_cls.bias, -math.log(99))
        # END SOLUTION 2.1

    def forward(self, feats_per_fpn_level):
        """Predict classes, boxes and centerness at every location of every level.

        Args:
            feats_per_fpn_level: {"p3": (B, C, H, W), ...}.

        Returns:
            Three dicts with the keys of the input: class logits (B, H*W, K), LTRB deltas (B, H*W, 4) and centerness
            logits (B, H*W, 1). No activation is applied; locations are listed row by row.
        """
        # BEGIN SOLUTION 2.1
        #: Send the features of each level through the stems and the prediction layers. A prediction comes out as
        #: (B, channels, H, W); bring it to (B, H*W, channels). Return the three dicts: class, box, centerness.
        class_logits, boxreg_deltas, centerness_logits = {}, {}, {}
        for level_name, feats in feats_per_fpn_level.items():
            class_feats, box_feats = self.stem_cls(feats), self.stem_box(feats)
            # (B, channels, H, W) -> (B, channels, H*W) -> (B, H*W, channels)
            class_logits[level_name] = self.pred_cls(class_feats).flatten(2).transpose(1, 2)
            boxreg_deltas[level_name] = self.pred_box(box_feats).flatten(2).transpose(1, 2)
            centerness_logits[level_name] = self.pred_ctr(box_feats).flatten(2).transpose(1, 2)
        return [class_logits, boxreg_deltas, centerness_logits]
        # END SOLUTION 2.1


def fcos_match_locations_to_gt(locations_per_fpn_level, strides_per_fpn_level, gt_boxes):
    """Find the ground-truth box that each location must predict.

    Args:
        locations_per_fpn_level: {"p3": (L, 2), ...}, (x, y) in pixels, finest level first.
        strides_per_fpn_level: {"p3": 8, ...}.
        gt_boxes: (M, 5) or, for several images at once, (B, M, 5); rows of -1 are padding.

    Returns:
        {"p3": (L, 5), ...}, or (B, L, 5): a row of `gt_boxes` for each location, -1 where the location is background.

    Source: FCOS, sections 3.1 and 3.2.
    """
    # BEGIN SOLUTION 2.5
    #: For each level: a location is positive for a box when it lies inside it and the largest of its four distances to
    #: the sides is within 4 to 8 strides, ends included (from 0 on the finest level, to infinity on the coarsest). Of
    #: several such boxes the one with the smallest area wins; without one the row is -1.
    # A last row of -1 stands for "no box", so that background is a choice like any other, and M is never 0.
    gt_boxes = F.pad(gt_boxes, (0, 0, 0, 1), value=-1.0)  # (..., M + 1, 5)
    x1, y1, x2, y2 = gt_boxes[..., None, :, :4].unbind(dim=-1)  # (..., 1, M + 1) each
    areas = (x2 - x1).float() * (y2 - y1).float()  # half precision cannot hold the area of a large box
    finest, coarsest = min(strides_per_fpn_level.values()), max(strides_per_fpn_level.values())
    matched_boxes = {}
    for level_name, locations in locations_per_fpn_level.items():
        stride = strides_per_fpn_level[level_name]
        x, y = locations[:, None, :].unbind(dim=-1)  # (L, 1) each
        ltrb = torch.stack([x - x1, y - y1, x2 - x, y2 - y], dim=-1)  # (..., L, M + 1, 4)
        # A location is positive for a box only when it lies inside it (section 3.1).
        inside = ltrb.amin(dim=-1) > 0
        # Each level takes boxes of its own size, by the largest distance that has to be regressed (section 3.2):
        # that is how most overlapping boxes part, as they usually differ much in size.
        largest = ltrb.amax(dim=-1)
        lower = 0.0 if stride == finest else 4.0 * stride
        upper = math.inf if stride == coarsest else 8.0 * stride
        matches = inside & (largest >= lower) & (largest <= upper)  # (..., L, M + 1)
        # A location inside several boxes of its level's size takes the smallest (section 3.1, ambiguous samples).
        cost = areas.expand_as(matches).masked_fill(~matches, math.inf)
        cost[..., -1] = torch.finfo(cost.dtype).max  # "no box" wins only over boxes that do not match
        chosen = cost.argmin(dim=-1)  # (..., L)
        matched_boxes[level_name] = gt_boxes.gather(-2, chosen[..., None].expand(*chosen.shape, gt_boxes.shape[-1]))
    return matched_boxes
    # END SOLUTION 2.5


def fcos_get_deltas_from_locations(locations, gt_boxes, stride):
    """Compute the distances from locations to the sides of their boxes: what the network learns to predict.

    Args:
        locations: (N, 2), (x, y) in pixels.
        gt_boxes: (N, 4) or (N, 5), the box of each location, -1 for background. Leading dimensions may be added.
        stride: of the level that the locations belong to, pixels.

    Returns:
        (N, 4): left, top, right, bottom in units of the stride; (-1, -1, -1, -1) for background.

    Source: FCOS, equation 1, divided by the stride so that all levels regress numbers of the same size.
    """
    # BEGIN SOLUTION 2.2
    #: Compute l = x - x1, t = y - y1, r = x2 - x, b = y2 - y, divided by the stride. Background rows (all four
    #: coordinates -1) give -1. The class column, when there is one, plays no part.
    x, y = locations.unbind(dim=-1)
    x1, y1, x2, y2 = gt_boxes[..., :4].unbind(dim=-1)
    deltas = torch.stack([x - x1, y - y1, x2 - x, y2 - y], dim=-1) / stride  # (N, 4)
    background = (gt_boxes[..., :4] == -1).all(dim=-1, keepdim=True)  # (N, 1)
    return deltas.masked_fill(background, -1.0)
    # END SOLUTION 2.2


def fcos_apply_deltas_to_locations(deltas, locations, stride):
    """Turn predicted deltas into boxes: the inverse of `fcos_get_deltas_from_locations`.

    Args:
        deltas: (N, 4), left, top, right, bottom in units of the stride; negative ones count as 0.
        locations: (N, 2), (x, y) in pixels.
        stride: of the level that the locations belong to, pixels.

    Returns:
        (N, 4): boxes (x1, y1, x2, y2) in pixels.

    Source: FCOS, section 3.1.
    """
    # BEGIN SOLUTION 2.3
    #: Count negative deltas as 0, multiply by the stride, and measure from the location: left and top are subtracted,
    #: right and bottom are added.
    # A box always contains its location, so no distance can be negative.
    left, top, right, bottom = (deltas.clamp(min=0) * stride).unbind(dim=-1)
    x, y = locations.unbind(dim=-1)
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=-1)  # (N, 4)
    # END SOLUTION 2.3


def fcos_make_centerness_targets(deltas):
    """Compute how central each location lies in its box: 1 at the centre, towards 0 at the sides.

    Args:
        deltas: (N, 4), LTRB deltas of the matched boxes; (-1, -1, -1, -1) for background.

    Returns:
        (N,): sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), and -1 for background.

    Source: FCOS, equation 3.
    """
    # BEGIN SOLUTION 2.4
    #: Compute equation 3 from the four columns; background rows give -1.
    left, top, right, bottom = deltas.unbind(dim=-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    background = (deltas == -1).all(dim=-1)
    return (horizontal * vertical).clamp(min=0).sqrt().masked_fill(background, -1.0)  # (N,)
    # END SOLUTION 2.4


class FCOS(nn.Module):
    """The detector: backbone, pyramid and head, with the losses to train it and the inference to use it.

    Args:
        num_classes: K.
        fpn_channels: channels of the pyramid's features.
        stem_channels: of the head; see `FCOSPredictionNetwork`.
        weights, backbone: of the backbone; see `DetectorBackboneWithFPN`.

    Attributes:
        num_classes: K.
        backbone: `DetectorBackboneWithFPN`.
        pred_net: `FCOSPredictionNetwork`.

    Source: FCOS, section 3.
    """

    def __init__(self, num_classes, fpn_channels, stem_channels, weights="DEFAULT", backbone="regnet_x_400mf"):
        super().__init__()
        self.num_classes = num_classes
        # BEGIN SOLUTION 3.1
        #: Set `self.backbone` (a `DetectorBackboneWithFPN` with `fpn_channels`; hand on `weights` and `backbone`) and
        #: `self.pred_net` (a `FCOSPredictionNetwork` on top of it).
        self.backbone = DetectorBackboneWithFPN(fpn_channels, weights=weights, backbone=backbone)
        self.pred_net = FCOSPredictionNetwork(num_classes, fpn_channels, stem_channels)
        # END SOLUTION 3.1
        # Moving average of the number of foreground locations in an image; the losses are divided by it.
        self._normalizer = 150

    def forward(self, images, gt_boxes=None, test_score_thresh=None, test_nms_thresh=None):
        """Compute the losses (train mode) or detect objects (eval mode).

        Args:
            images: (B, 3, H, W).
            gt_boxes: (B, M, 5), rows of -1 are padding; needed in train mode.
            test_score_thresh, test_nms_thresh: for eval mode; see `inference`.

        Returns:
            In train mode {"loss_cls", "loss_box", "loss_ctr"}: scalars, each the sum over all locations, divided by B
            and by the moving average of foreground locations in an image. In eval mode what `inference` returns.

        Source: FCOS, equation 2; the moving average steadies batches with few objects.
        """
        # BEGIN SOLUTION 3.1
        #: Send the images through `self.backbone` and the features through `self.pred_net`: this gives
        #: `pred_cls_logits`, `pred_boxreg_deltas` and `pred_ctr_logits`. Compute `locations_per_fpn_level` with
        #: `get_fpn_location_coords` (same dtype and device as the images).
        feats_per_fpn_level = self.backbone(images)
        pred_cls_logits, pred_boxreg_deltas, pred_ctr_logits = self.pred_net(feats_per_fpn_level)
        strides_per_fpn_level = self.backbone.fpn_strides
        locations_per_fpn_level = get_fpn_location_coords(
            {level_name: feats.shape for level_name, feats in feats_per_fpn_level.items()},
            strides_per_fpn_level,
            dtype=images.dtype,
            device=images.device,
        )
        # END SOLUTION 3.1
        if not self.training:
            thresholds = {"test_score_thresh": test_score_thresh, "test_nms_thresh": test_nms_thresh}
            return self.inference(
                images,
                locations_per_fpn_level,
                pred_cls_logits,
                pred_boxreg_deltas,
                pred_ctr_logits,
                **{name: value for name, value in thresholds.items() if value is not None},
            )
        # BEGIN SOLUTION 3.1
        #: Match every image's boxes to the locations and make the targets of all levels: classes, deltas, centerness.
        #: Count the foreground locations of an image, on average over the batch, and update
        #: `self._normalizer = 0.9 * self._normalizer + 0.1 * count`. Then compute the three losses: focal loss of the
        #: classes at all locations (background has no class), 0.25 * L1 of the deltas and binary cross-entropy of the
        #: centerness at foreground locations only. Divide each sum by `self._normalizer * B` and return the dict.
        matched_per_fpn_level = fcos_match_locations_to_gt(locations_per_fpn_level, strides_per_fpn_level, gt_boxes)
        deltas_per_fpn_level = {
            level_name: fcos_get_deltas_from_locations(
                locations_per_fpn_level[level_name].expand(len(images), -1, -1),  # (B, L, 2)
                matched,  # (B, L, 5)
                strides_per_fpn_level[level_name],
            )
            for level_name, matched in matched_per_fpn_level.items()
        }
        # From here on a location's level plays no part: all N locations of an image stand in one row.
        levels = list(feats_per_fpn_level)
        class_logits, boxreg_deltas, ctr_logits, matched_boxes, gt_deltas = (
            torch.cat([values[level_name] for level_name in levels], dim=1)
            for values in (
                pred_cls_logits,  # (B, N, K)
                pred_boxreg_deltas,  # (B, N, 4)
                pred_ctr_logits,  # (B, N, 1)
                matched_per_fpn_level,  # (B, N, 5)
                deltas_per_fpn_level,  # (B, N, 4)
            )
        )
        gt_classes = matched_boxes[..., 4].long()  # (B, N), -1 for background
        foreground = gt_classes >= 0  # (B, N)
        self._normalizer = 0.9 * self._normalizer + 0.1 * foreground.sum().item() / len(images)

        # K binary classifiers instead of one softmax (section 3.1): background is simply "none of them".
        one_hot = F.one_hot(gt_classes + 1, self.num_classes + 1)[..., 1:].to(class_logits.dtype)  # (B, N, K)
        loss_cls = sigmoid_focal_loss(class_logits, one_hot, alpha=0.25, gamma=2.0, reduction="sum")
        # Boxes and centerness are learned where there is a box (the indicator function in equation 2).
        foreground_deltas = gt_deltas[foreground]  # (N_fg, 4)
        loss_box = 0.25 * F.l1_loss(boxreg_deltas[foreground], foreground_deltas, reduction="sum")
        loss_ctr = F.binary_cross_entropy_with_logits(
            ctr_logits[foreground].squeeze(-1), fcos_make_centerness_targets(foreground_deltas), reduction="sum"
        )
        total = self._normalizer * len(images)
        return {"loss_cls": loss_cls / total, "loss_box": loss_box / total, "loss_ctr": loss_ctr / total}
        # END SOLUTION 3.1

    def inference(
        self,
        images,
        locations_per_fpn_level,
        pred_cls_logits,
        pred_boxreg_deltas,
        pred_ctr_logits,
        test_score_thresh=0.3,
        test_nms_thresh=0.5,
    ):
        """Turn the head's output for one image into detections.

        Args:
            images: (1, 3, H, W); only its size is used.
            locations_per_fpn_level: {"p3": (L, 2), ...}.
            pred_cls_logits, pred_boxreg_deltas, pred_ctr_logits: what `FCOSPredictionNetwork` returns, with B = 1.
            test_score_thresh: detections with a score up to this are removed.
            test_nms_thresh: IoU above which the lower of two boxes of one class is removed.

        Returns:
            boxes (N, 4) in pixels inside the image, classes (N,) int64, scores (N,), highest first; N may be 0.

        Raises:
            ValueError: more than one image.

        Source: FCOS, section 3.3; the square root of the product is used by the authors' later code.
        """
        if images.shape[0] != 1:
            raise ValueError(f"inference takes one image at a time, got a batch of {images.shape[0]}")
        # BEGIN SOLUTION 4.2
        #: For every location of every level: the score of a class is sqrt(sigmoid(class logit) * sigmoid(centerness
        #: logit)); take the best class; keep the location when its score is greater than `test_score_thresh`; turn its
        #: deltas into a box with `fcos_apply_deltas_to_locations`; clip the box to the image. Then put the levels
        #: together and remove duplicates with `class_spec_nms`.
        height, width = images.shape[-2:]
        boxes, classes, scores = [], [], []
        for level_name, locations in locations_per_fpn_level.items():
            # Centerness lowers the score of boxes predicted far from the centre of an object (section 3.3).
            class_probabilities = pred_cls_logits[level_name][0].sigmoid()  # (L, K)
            centerness = pred_ctr_logits[level_name][0].sigmoid()  # (L, 1)
            level_scores, level_classes = (class_probabilities * centerness).sqrt().max(dim=1)  # (L,) each
            keep = level_scores > test_score_thresh
            level_boxes = fcos_apply_deltas_to_locations(
                pred_boxreg_deltas[level_name][0][keep],
                locations[keep],
                self.backbone.fpn_strides[level_name],
            )
            boxes.append(level_boxes)
            classes.append(level_classes[keep])
            scores.append(level_scores[keep])
        boxes, classes, scores = torch.cat(boxes), torch.cat(classes), torch.cat(scores)
        # x is bounded by the width, y by the height.
        limits = boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(boxes.clamp(min=0), limits)
        keep = class_spec_nms(boxes, scores, classes, iou_threshold=test_nms_thresh)
        return boxes[keep], classes[keep], scores[keep]
        # END SOLUTION 4.2
