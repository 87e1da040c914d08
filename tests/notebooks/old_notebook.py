# %% [markdown]
# A notebook with the imports and calls that notebooks of the original assignment have, in our own words.

# %%
# ruff: noqa: E402, F401, F403, F405 - the imports are those of old notebooks
# %load_ext autoreload
# %autoreload 2

# %%
import os
import sys
import time

folder = os.getcwd()
sys.path.append(folder)

from a4_helper import hello_helper
from common import hello_common
from one_stage_detector import hello_one_stage_detector

hello_helper()
hello_common()
hello_one_stage_detector()
print("edited", time.ctime(os.path.getmtime(os.path.join(folder, "common.py"))))

# %%
import eecs598
import matplotlib.pyplot as plt
import torch
import torchvision
from a4_helper import *
from eecs598.grad import rel_error
from eecs598.utils import reset_seed
from torch.utils.data import DataLoader
from torchvision import transforms

# %matplotlib inline
plt.rcParams["figure.figsize"] = (10.0, 8.0)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
eecs598.reset_seed(0)

# %%
train_dataset = VOC2007DetectionTiny(os.environ["OLD_DATA"], "train", image_size=64, download=False)
val_dataset = VOC2007DetectionTiny(os.environ["OLD_DATA"], "val", image_size=64)
train_dataset = torch.utils.data.Subset(train_dataset, range(8))
val_dataset = torch.utils.data.Subset(val_dataset, range(2))
idx_to_class = val_dataset.dataset.idx_to_class
train_loader = DataLoader(train_dataset, batch_size=4, pin_memory=False, num_workers=0)
val_loader = DataLoader(val_dataset, batch_size=1, pin_memory=False, num_workers=0)
image_paths, images, gt_boxes = next(iter(train_loader))
print(
    "batch", tuple(images.shape), tuple(gt_boxes.shape)[::2], len(image_paths), len(train_dataset.dataset.class_to_idx)
)

# %%
unnormalise = transforms.Compose(
    [
        transforms.Normalize(mean=[0.0, 0.0, 0.0], std=[1 / 0.229, 1 / 0.224, 1 / 0.225]),
        transforms.Normalize(mean=[-0.485, -0.456, -0.406], std=[1.0, 1.0, 1.0]),
    ]
)
for image, boxes in zip(images[:2], gt_boxes):
    detection_visualizer(unnormalise(image), idx_to_class, boxes[boxes[:, 4] != -1])

# %%
from common import DetectorBackboneWithFPN, get_fpn_location_coords

backbone = DetectorBackboneWithFPN(out_channels=64)
features = backbone(torch.randn(2, 3, 64, 64))
print("pyramid", {level: tuple(feature.shape) for level, feature in features.items()})
locations = get_fpn_location_coords(
    shape_per_fpn_level={level: feature.shape for level, feature in features.items()},
    strides_per_fpn_level=backbone.fpn_strides,
    dtype=torch.float32,
    device="cpu",
)
print("locations", locations["p3"][:3].tolist())

# %%
from one_stage_detector import (
    FCOS,
    FCOSPredictionNetwork,
    fcos_apply_deltas_to_locations,
    fcos_get_deltas_from_locations,
    fcos_make_centerness_targets,
    fcos_match_locations_to_gt,
)

head = FCOSPredictionNetwork(num_classes=20, in_channels=64, stem_channels=[64, 64])
cls, box, ctr = head(features)
print("head", tuple(cls["p3"].shape), tuple(box["p3"].shape), tuple(ctr["p3"].shape))
matched = fcos_match_locations_to_gt(locations, backbone.fpn_strides, gt_boxes[0])
detection_visualizer(unnormalise(images[0]), idx_to_class, gt_boxes[0], points=locations["p4"].tolist())

here = torch.Tensor([[30, 40], [60, 60]])
around = torch.Tensor([[10, 20, 50, 60, 1], [30, 40, 120, 90, 2]])
deltas = fcos_get_deltas_from_locations(here, around, stride=8)
boxes = fcos_apply_deltas_to_locations(deltas, here, stride=8)
print(
    "round trip", rel_error(boxes, around[:, :4]) < 1e-6, "centerness", fcos_make_centerness_targets(deltas)[0].item()
)

# %%
detector = FCOS(num_classes=20, fpn_channels=64, stem_channels=[64, 64])
detector = detector.to(DEVICE)
train_detector(detector, train_loader, learning_rate=5e-3, max_iters=3, log_period=1, device=DEVICE)
torch.save(detector.state_dict(), os.path.join(folder, "fcos_detector.pt"))

# %%
from common import nms

corner = 100 * torch.rand(500, 2)
boxes, scores = torch.cat([corner, corner + 20 + 30 * torch.rand(500, 2)], dim=1), torch.rand(500)
print("nms", torch.equal(nms(boxes, scores, 0.7), torchvision.ops.nms(boxes, scores, 0.7)))

# %%
detector.load_state_dict(torch.load(os.path.join(folder, "fcos_detector.pt"), map_location="cpu"))
detector.eval()
with torch.no_grad():
    boxes, classes, scores = detector(images[:1].to(DEVICE), test_score_thresh=0.4, test_nms_thresh=0.6)
print("inference", boxes.shape[1], len(boxes) == len(classes) == len(scores))
inference_with_detector(
    detector, val_loader, idx_to_class, score_thresh=0.0, nms_thresh=0.5, device=DEVICE, dtype=torch.float32
)

# %%
from eecs598.submit import make_a4_submission

print("handed in", make_a4_submission(folder, "Ada Example", "ada01"))
