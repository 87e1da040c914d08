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
        # TODO 2.1: Build `self.stem_cls` and `self.stem_box` (`nn.Sequential`: for each entry of `stem_channels` a
        # 3x3 convolution with padding 1, then a ReLU), and the 3x3 convolutions `self.pred_cls` (K channels),
        # `self.pred_box` (4) and `self.pred_ctr` (1). Draw the weights of all convolutions from N(0, 0.01), set
        # their biases to 0, then every bias of `pred_cls` to -log(99).
        raise NotImplementedError("Task 2.1: Prediction head")

    def forward(self, feats_per_fpn_level):
        """Predict classes, boxes and centerness at every location of every level.

        Args:
            feats_per_fpn_level: {"p3": (B, C, H, W), ...}.

        Returns:
            Three dicts with the keys of the input: class logits (B, H*W, K), LTRB deltas (B, H*W, 4) and centerness
            logits (B, H*W, 1). No activation is applied; locations are listed row by row.
        """
        # TODO 2.1: Send the features of each level through the stems and the prediction layers. A prediction comes
        # out as (B, channels, H, W); bring it to (B, H*W, channels). Return the three dicts: class, box,
        # centerness.
        raise NotImplementedError("Task 2.1: Prediction head")


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
    # TODO 2.2: Compute l = x - x1, t = y - y1, r = x2 - x, b = y2 - y, divided by the stride. Background rows (all
    # four coordinates -1) give -1. The class column, when there is one, plays no part.
    raise NotImplementedError("Task 2.2: Box deltas")


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
    # TODO 2.3: Count negative deltas as 0, multiply by the stride, and measure from the location: left and top are
    # subtracted, right and bottom are added.
    raise NotImplementedError("Task 2.3: Apply deltas")


def fcos_make_centerness_targets(deltas):
    """Compute how central each location lies in its box: 1 at the centre, towards 0 at the sides.

    Args:
        deltas: (N, 4), LTRB deltas of the matched boxes; (-1, -1, -1, -1) for background.

    Returns:
        (N,): sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), and -1 for background.

    Source: FCOS, equation 3.
    """
    # TODO 2.4: Compute equation 3 from the four columns; background rows give -1.
    raise NotImplementedError("Task 2.4: Centerness targets")


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
        # TODO 3.1: Set `self.backbone` (a `DetectorBackboneWithFPN` with `fpn_channels`; hand on `weights` and
        # `backbone`) and `self.pred_net` (a `FCOSPredictionNetwork` on top of it).
        raise NotImplementedError("Task 3.1: FCOS: losses")
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
        # TODO 3.1: Send the images through `self.backbone` and the features through `self.pred_net`: this gives
        # `pred_cls_logits`, `pred_boxreg_deltas` and `pred_ctr_logits`. Compute `locations_per_fpn_level` with
        # `get_fpn_location_coords` (same dtype and device as the images).
        raise NotImplementedError("Task 3.1: FCOS: losses")
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
        # TODO 3.1: Match every image's boxes to the locations and make the targets of all levels: classes, deltas,
        # centerness. Count the foreground locations of an image, on average over the batch, and update
        # `self._normalizer = 0.9 * self._normalizer + 0.1 * count`. Then compute the three losses: focal loss of
        # the classes at all locations (background has no class), 0.25 * L1 of the deltas and binary cross-entropy
        # of the centerness at foreground locations only. Divide each sum by `self._normalizer * B` and return the
        # dict.
        raise NotImplementedError("Task 3.1: FCOS: losses")

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
        # TODO 4.2: For every location of every level: the score of a class is sqrt(sigmoid(class logit) *
        # sigmoid(centerness logit)); take the best class; keep the location when its score is greater than
        # `test_score_thresh`; turn its deltas into a box with `fcos_apply_deltas_to_locations`; clip the box to the
        # image. Then put the levels together and remove duplicates with `class_spec_nms`.
        raise NotImplementedError("Task 4.2: Inference")
