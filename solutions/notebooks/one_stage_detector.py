# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] id="title"
# # FCOS: a one-stage object detector
#
# {{ badge }}
#
# A classifier says *what* is in an image. A detector also says *where*, and *how many*. In this notebook you build one
# from nearly nothing: FCOS, which looks at every location of a feature map and asks three plain questions: *is there an
# object here, where are its four sides, and am I near its middle?* No anchor boxes, no proposals, no second stage.
#
# Paper: Tian, Shen, Chen, He, *FCOS: Fully Convolutional One-Stage Object Detection*, ICCV 2019, [arXiv
# 1904.01355](https://arxiv.org/abs/1904.01355). Sections 3.1 to 3.3 are a few pages, and you will write all of them.
#
# **How to work.** You write code in two files, `common.py` and `one_stage_detector.py`; this notebook imports them,
# explains, draws, and checks. Each task has a cell `check("1.1")`: it runs the public tests of that task in a process
# of its own and tells you what it expected and what it got. The grader runs the same tests, and some more on other
# shapes and sizes. Edit, save, run the check again: the notebook sees your change without a restart.
#
# {{ tasks }}
#
# A few short questions are answered in words, right here, and read by a person ({{ written }} points on top). Two or
# three honest sentences beat a page.

# %% [markdown] id="setup-text"
# ## 0. Set-up
#
# Run the next cell first, each time you open the notebook. In Colab it asks for access to your Drive and finds the
# folder with the assignment by itself.

# %% id="setup"
import os
import sys
from pathlib import Path

try:
    from google.colab import drive
except ImportError:  # not in Colab: the helpers lie in this folder or in one above it
    homes = [folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "helpers/notebook.py").is_file()]
else:
    mount = Path(os.environ.get("FCOS_DRIVE", "/content/drive"))
    drive.mount(str(mount))
    depths = ["*/" * depth + "helpers/notebook.py" for depth in range(5)]
    homes = [file.parents[1] for depth in depths for file in sorted((mount / "MyDrive").glob(depth))]
if not homes:
    raise FileNotFoundError("The assignment is not here. Unzip it (in Colab: in your Google Drive) and run this again.")
sys.path[:0] = [str(home) for home in homes[:1] if str(home) not in sys.path]

from helpers.notebook import set_up

workspace = set_up()

# %% [markdown] id="run-text"
# ### Quick run or full run
#
# Everything below works in two sizes. Write all your code with the quick run; switch to the full run when every check
# is green.
#
# | | quick run | full run |
# |:--|:--|:--|
# | images | 240 drawn ones, made in seconds | VOC2007, 5011 photographs, a download of 460 MB |
# | size | 128 pixels | 224 pixels |
# | backbone | MobileNetV2, random weights | RegNetX-400MF, trained on ImageNet |
# | training | 150 iterations on 16 images | 9000 iterations of 16 images |
# | time to train, two CPU cores | about half a minute | one to two hours |
# | time to train, Colab's T4 | a few seconds | 10 to 20 minutes, an estimate from its arithmetic; the bar knows better |
# | time to train, a newer GPU | a few seconds | some minutes, an estimate as well |
# | what to expect | knows its 16 images by heart, and nothing else | about 50 % mAP on images never seen |
#
# The quick run proves that the parts fit together. It does not prove that the detector generalises: 16 images teach
# nobody what a horse looks like. If you are short of time, a full run of 2000 iterations already shows clear
# detections.

# %% id="run-settings" tags=["parameters"]
QUICK_RUN = True  # False: the full run

QUICK_RUN = bool(int(os.environ.get("FCOS_QUICK", QUICK_RUN)))
if QUICK_RUN:
    IMAGE_SIZE, BATCH_SIZE, MAX_ITERS = 128, 8, 150
    BACKBONE = {"backbone": "mobilenet_v2", "weights": None}
    AUGMENTATION = {}
    RECIPE = {"learning_rate": 0.05, "schedule": "cosine", "warmup_iters": 10, "clip_grad_norm": 5.0}
else:
    IMAGE_SIZE, BATCH_SIZE, MAX_ITERS = 224, 16, 9000
    BACKBONE = {}
    AUGMENTATION = {"hflip": 0.5, "scale_jitter": (0.7, 1.4)}
    RECIPE = {
        "optimizer": "adamw",
        "learning_rate": 0.001,
        "backbone_lr_factor": 0.1,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup_iters": 300,
        "clip_grad_norm": 10.0,
        "ema_decay": 0.998,
        "channels_last": True,
    }

# For those who run this from a script, without editing it.
MAX_ITERS = int(os.environ.get("FCOS_MAX_ITERS", MAX_ITERS))
if "FCOS_BACKBONE_WEIGHTS" in os.environ:
    BACKBONE = {"backbone": "mobilenet_v2", "weights": os.environ["FCOS_BACKBONE_WEIGHTS"]}

NUM_CLASSES, FPN_CHANNELS, STEM_CHANNELS = 20, 64, [64, 64]
DEVICE = workspace.device

run_name = f"{'quick' if QUICK_RUN else 'full'}-{MAX_ITERS}"
checkpoint = workspace.output / f"{run_name}-checkpoint.pt"
full_weights = workspace.output / "fcos_detector.pt"  # the file to hand in, which a quick run leaves alone
weights_file = workspace.output / "quick-detector.pt" if QUICK_RUN else full_weights

# %% id="imports"
import time

import torch
import torchvision
from IPython.display import display
from torch.utils.data import DataLoader, Subset

from autograder import check
from helpers import VOC2007DetectionTiny, collate, make_sample, reset_seed

check.use(workspace.assignment)

# %% [markdown] id="data-text"
# ## 1. Data
#
# PASCAL VOC has 20 classes of everyday things. For each image an annotator drew a box around each object. A box is
# four numbers $(x_1, y_1, x_2, y_2)$ in pixels: $x$ runs to the right, $y$ **down**, so $(x_1, y_1)$ is the upper
# left corner.
#
# An item of the data set is a path, an image tensor `(3, H, W)`, and a tensor `gt_boxes` of shape `(M, 5)`: four
# coordinates and the class. Images hold different numbers of objects, but tensors in a batch need one shape, so unused
# rows are filled with −1.
#
# *Before you go on:* why is −1 a better filling than 0? And what would a model learn from padding that nobody masks?

# %% id="data"
if os.environ.get("FCOS_VOC_ROOT"):
    data_root, download = os.environ["FCOS_VOC_ROOT"], False
elif QUICK_RUN:
    data_root, download = make_sample(workspace.data / "sample"), False
else:
    data_root, download = workspace.data / "voc2007", True

# In a long run every image is read thousands of times: decode it once and keep it on the local disk.
cache = None if QUICK_RUN else workspace.data / "cache"
whole_train_set = VOC2007DetectionTiny(data_root, "train", download=download, image_size=IMAGE_SIZE, cache=cache)
val_set = VOC2007DetectionTiny(data_root, "val", image_size=IMAGE_SIZE)
# The same images, in the full run another view of each in every epoch: mirrored or not, larger or smaller, cut elsewhere.
views = VOC2007DetectionTiny(data_root, "train", image_size=IMAGE_SIZE, cache=cache, **AUGMENTATION)
train_set = Subset(views, range(16)) if QUICK_RUN else views
eval_set = train_set if QUICK_RUN else val_set
idx_to_class = val_set.idx_to_class


def make_loader(dataset):
    workers = 2 if DEVICE == "cuda" else 0
    return DataLoader(dataset, BATCH_SIZE, shuffle=True, collate_fn=collate, num_workers=workers)


def make_detector():
    from one_stage_detector import FCOS  # yours, from section 7 on

    return FCOS(NUM_CLASSES, FPN_CHANNELS, STEM_CHANNELS, **BACKBONE)


def load_detector():
    detector = make_detector()
    detector.load_state_dict(torch.load(weights_file, map_location="cpu", weights_only=True))
    return detector.to(DEVICE).eval()


path, image, gt_boxes = whole_train_set[0]
print(f"{len(whole_train_set)} images to train on ({len(train_set)} in this run), {len(val_set)} to validate")
counts = whole_train_set.summary()
print(f"{counts['objects']} objects in the first, of which the centre crop leaves out {counts['lost_objects']}")
print(f"{Path(path).name}: image {tuple(image.shape)}, gt_boxes {tuple(gt_boxes.shape)}")
print(gt_boxes[gt_boxes[:, 4] >= 0])

# %% [markdown] id="look-text"
# Always look at your data before you train on it. Do the boxes sit tightly on the objects? Do the names fit? A shifted
# box costs an evening; you see it here in a second.

# %% id="look"
from helpers.visualize import detection_grid

samples = [train_set[n] for n in range(8)]
detection_grid(
    [image for _, image, _ in samples],
    idx_to_class,
    ground_truth=[gt for _, _, gt in samples],
    title="Ground truth: every box sits tightly on its object",
)

# %% [markdown] id="backbone-text"
# ## 2. Backbone and feature pyramid
#
# **What.** The backbone is a classification network with its last layers cut off. We tap it at three depths, called
# `c3`, `c4` and `c5`, with strides 8, 16 and 32: one cell of `c4` stands for 16 × 16 pixels of the image.
#
# **The picture to have in mind.** Three photographs of one scene, ever smaller and ever cleverer. `c3` is sharp but
# naive: it knows edges and textures. `c5` is tiny but has seen the whole scene: it knows "bus", but not where the bus
# ends.

# %% id="backbone-shapes"
from torchvision.models import mobilenet_v2
from torchvision.models.feature_extraction import create_feature_extractor

taps = {"features.6": "c3", "features.13": "c4", "features.17": "c5"}
extractor = create_feature_extractor(mobilenet_v2(weights=None), taps).eval()
with torch.no_grad():
    tapped = extractor(torch.zeros(2, 3, 160, 224))
print("images", (2, 3, 160, 224))
for level, feature in tapped.items():
    print(level, tuple(feature.shape), "stride", 160 // feature.shape[2])

# %% [markdown] id="q-backbone"
# **Question 1.** An object is 20 pixels wide. How many cells of `c3` and of `c5` does it cover? Use that to explain
# why a detector that reads `c5` alone misses small objects, and why one that reads `c3` alone confuses classes.

# %% [markdown] id="answer-backbone" points=2
# 20 pixels are 2.5 cells of c3 (stride 8) but not even one of c5 (stride 32), where the object shares its cell with
# its surroundings and perhaps with other objects, so that it can hardly be separated. c3 has the resolution, but its
# features come from few layers with a small receptive field: they see texture and edges, too little of the object and
# its context to tell a dog from a sheep.

# %% [markdown] id="fpn-text"
# **Feature pyramid (FPN).** The remedy is to let the levels talk, from coarse to fine. A 1 × 1 *lateral* convolution
# $L_i$ brings each level to the same number of channels; then the coarse map is enlarged and added to the finer one; a
# 3 × 3 *output* convolution $O_i$ smooths the result:
#
# $$m_5 = L_5(c_5), \quad m_4 = L_4(c_4) + \mathrm{up}_2(m_5), \quad m_3 = L_3(c_3) + \mathrm{up}_2(m_4),
#   \quad p_i = O_i(m_i).$$
#
# Now `p3` knows *what* (from above) and *where* (from below). FCOS section [3.2](https://arxiv.org/abs/1904.01355)
# uses the pyramid for a second purpose that you will meet in section 4: objects of different sizes go to different
# levels. (The paper adds two coarser levels, `p6` and `p7`; at 224 pixels, three do.)

# %% [markdown] id="task-1-1-text" task="1.1"
# ### Task 1.1: the pyramid (`common.py`, `DetectorBackboneWithFPN`)
#
# Ask yourself while you write:
# - Does `m4` get the *merged* map above it, or only the lateral one? (If `c5` changes, must `p3` change?)
# - Does every convolution have its own weights, and does it live in `self.fpn_params`, where the optimiser finds it?
# - A 3 × 3 convolution without padding eats a border. Which padding keeps the size?
# - What if the image is wider than it is high?

# %% id="task-1-1" task="1.1"
check("1.1")

# %% id="fpn-shapes"
from common import DetectorBackboneWithFPN

pyramid = DetectorBackboneWithFPN(FPN_CHANNELS, backbone="mobilenet_v2", weights=None).eval()
with torch.no_grad():
    features = pyramid(torch.zeros(2, 3, 160, 224))
for level, feature in features.items():
    print(level, tuple(feature.shape), "stride", pyramid.fpn_strides[level])

# %% [markdown] id="q-fpn"
# **Question 2.** Suppose that you forget the top-down path, so that $m_i = L_i(c_i)$. All shapes stay right and
# training runs. Which objects would your detector become worse at, and why does the pyramid cost so little
# computation?

# %% [markdown] id="answer-fpn" points=2
# Small ones: they are predicted from p3, which then rests on shallow features alone and lacks the semantics of c4 and
# c5. The pyramid is cheap because it reuses what the backbone has computed anyway: three 1x1 and three 3x3
# convolutions with few channels and two upsamplings, instead of running the network on several sizes of the image.

# %% [markdown] id="locations-text"
# ### Where each cell looks
#
# **What.** Each cell of a feature map stands for one point of the image, the centre of its square. The paper calls
# these points *locations* ([section 3.1](https://arxiv.org/abs/1904.01355)). For stride $s$, the cell in row $i$ and
# column $j$ looks at
#
# $$x = s\,(j + \tfrac12), \qquad y = s\,(i + \tfrac12).$$
#
# **Order.** `features.flatten(2)` lists a map row by row. So location `k` of a level is the $(x, y)$ of the cell in row
# `k // W` and column `k % W`, and the list for `p3` begins $(4, 4), (12, 4), (20, 4), \dots$: **x changes first**.
#
# > *A note for those who have seen other versions of this exercise.* A list that circulates begins $(4, 4), (4, 12),
# > (4, 20)$: that is (row, column). With features flattened row by row it trains a detector on transposed targets. It
# > runs, its loss falls, and it finds next to nothing: after 1000 steps of plain training on VOC2007, 3 % mAP in place
# > of 17 %.

# %% [markdown] id="task-1-2-text" task="1.2"
# ### Task 1.2: location coordinates (`common.py`, `get_fpn_location_coords`)
#
# - `torch.meshgrid` has an `indexing` argument. Which one gives you rows first?
# - On a square map, x and y can be swapped without anybody noticing. Try a map of 2 rows and 3 columns by hand.
# - Are your coordinates on the device and of the dtype that were asked for?

# %% id="task-1-2" task="1.2"
check("1.2")

# %% id="locations-by-hand"
from common import get_fpn_location_coords

# Two rows and three columns at stride 8, small enough to check by hand: the third location is the end of the first row.
get_fpn_location_coords({"p3": (1, 64, 2, 3)}, {"p3": 8})["p3"]

# %% [markdown] id="head-text"
# ## 3. The head
#
# **What.** One small network slides over every cell of every level, with the *same* weights on all of them, and
# predicts three things: $K$ class logits, four distances to the sides of a box, and one centerness logit. Two
# branches ("stems") of 3 × 3 convolutions and ReLUs lead there, as in figure 2 of the paper. One difference: the
# figure hangs centerness on the class branch; here it reads the **box** branch, which its authors later found to be
# better (table 3, "ctr. on reg.").
#
# **Why shared weights?** A bus that is near and a bus that is far look alike, once each is seen at a level that fits
# its size. What is learned for one level serves all.
#
# **Output.** For each level `(B, H*W, K)`, `(B, H*W, 4)` and `(B, H*W, 1)`, in the order of the locations.
#
# **The bias trick.** At the start each class should have probability 0.01, since nearly every location is background.
# With a sigmoid that means a bias of $-\log\frac{1 - 0.01}{0.01} = -\log 99$. Without it, tens of thousands of
# confident mistakes drown the first iterations.

# %% [markdown] id="task-2-1-text" task="2.1"
# ### Task 2.1: the prediction head (`one_stage_detector.py`, `FCOSPredictionNetwork`)
#
# - You have `(B, K, H, W)` and want `(B, H*W, K)`. What does `view` do to the values that `permute` would not?
# - What are the input channels of the second convolution when `stem_channels = [24, 12]`?
# - Does centerness read the box stem? Is there a ReLU or a sigmoid after the last convolution? (There should not be.)

# %% id="task-2-1" task="2.1"
check("2.1")

# %% id="head-shapes"
from one_stage_detector import FCOSPredictionNetwork

head = FCOSPredictionNetwork(NUM_CLASSES, in_channels=64, stem_channels=STEM_CHANNELS)
with torch.no_grad():
    outputs = head({"p3": torch.randn(2, 64, 20, 28), "p4": torch.randn(2, 64, 10, 14)})
for name, output in zip(("class logits", "deltas", "centerness logits"), outputs):
    print(f"{name:18s}", {level: tuple(value.shape) for level, value in output.items()})
print(f"probability of a class before training: {outputs[0]['p3'].sigmoid().mean():.3f}")

# %% [markdown] id="matching-text"
# ## 4. Which location predicts which box?
#
# Here is every location of every level over one image. Each of them makes a prediction, so for training each needs an
# answer: one of the boxes, or "background".

# %% id="all-locations"
from helpers.visualize import location_grid

STRIDES = {"p3": 8, "p4": 16, "p5": 32}


def locations_of(image):
    height, width = image.shape[1:]
    shapes = {level: (1, FPN_CHANNELS, height // stride, width // stride) for level, stride in STRIDES.items()}
    return get_fpn_location_coords(shapes, STRIDES)


# At 224 pixels all three levels have something to do.
_, image, gt_boxes = VOC2007DetectionTiny(data_root, "train", image_size=224)[2]
location_grid(image, locations_of(image), gt_boxes)

# %% [markdown] id="matching-rules"
# **The rules** ([sections 3.1 and 3.2](https://arxiv.org/abs/1904.01355)). Let $l, t, r, b$ be the distances from a
# location to the left, top, right and bottom side of a box, in pixels.
#
# 1. **Inside.** A location is *positive* for a box only if it lies inside: $\min(l, t, r, b) > 0$.
# 2. **The right level.** A level of stride $s$ takes a box only if the largest distance is within its range,
#    $4s \le \max(l, t, r, b) \le 8s$; `p3` takes everything below its range too, and `p5` everything above. Small
#    distances are learned on the fine map, large ones on the coarse map.
# 3. **The smallest wins.** A location inside several boxes of its level's range is *ambiguous*; it takes the box with
#    the smallest area. Rule 2 has already parted most overlapping boxes, as they tend to differ in size.
# 4. All other locations are background, marked with −1 everywhere.

# %% [markdown] id="matching-given" given="2.5"
# `fcos_match_locations_to_gt` implements these rules. It is **given**: read it, then look at what it does.

# %% [markdown] id="task-2-5-text" task="2.5"
# ### Task 2.5: matching (`one_stage_detector.py`, `fcos_match_locations_to_gt`)
#
# - A location on the border of a box: inside or outside?
# - What happens when an image has no box at all? And when two boxes of equal area tie?
# - Can you do without a loop over locations?

# %% id="task-2-5" task="2.5"
check("2.5")

# %% [markdown] id="levels-text"
# Which level takes which box? In each panel, the coloured points are the positives of that level, and the colour tells
# which box they must predict. Grey points are background, and a dotted box has no location on that level. Follow the
# largest box: near its middle the largest distance is smaller than at its border, so one box can use two levels.

# %% id="levels"
from helpers.targets import matching_figure
from one_stage_detector import fcos_match_locations_to_gt

locations = locations_of(image)
matched = fcos_match_locations_to_gt(locations, STRIDES, gt_boxes)
matching_figure(image, locations, matched, gt_boxes, idx_to_class)

# %% [markdown] id="ambiguous-text"
# **Ambiguous locations.** Two boxes of about the same size, one over the other. The points in the overlap could serve
# either; they all go to the smaller box. The larger one keeps enough points elsewhere.

# %% id="ambiguous"
overlapping = torch.tensor([[16.0, 24.0, 88.0, 104.0, 3.0], [56.0, 48.0, 120.0, 112.0, 12.0]])
blank = torch.full((3, 128, 128), 0.9)
locations = locations_of(blank)
matched = fcos_match_locations_to_gt(locations, STRIDES, overlapping)
matching_figure(blank, locations, matched, overlapping, idx_to_class)

# %% [markdown] id="q-matching"
# **Question 3.** Positive and negative samples: about what share of all locations is positive in the pictures above?
# Give one reason why FCOS takes *all* locations inside a box and not only the one at its centre, and one problem that
# comes with it.

# %% [markdown] id="answer-matching" points=2
# A few per cent up to perhaps a fifth of the locations; the rest is background. Taking all locations inside gives many
# positives for each object, so more to learn from and a high recall, since a single bad feature cannot lose the object.
# The problem: locations near the border of a box see little of the object and predict poor boxes (the reason for
# centerness), and where boxes overlap the target is ambiguous.

# %% [markdown] id="deltas-text"
# ## 5. Boxes as four distances
#
# **What.** A location at $(x, y)$ describes its box by the distances to the four sides, in units of its level's stride
# ([section 3.1](https://arxiv.org/abs/1904.01355), equation 1):
#
# $$l = \frac{x - x_1}{s}, \qquad t = \frac{y - y_1}{s}, \qquad r = \frac{x_2 - x}{s}, \qquad b = \frac{y_2 - y}{s}.$$
#
# **Why divide by the stride?** Then every level regresses numbers of about the same size, and one head with shared
# weights can serve all.
#
# **The picture to have in mind.** You stand at a point in a room and measure the distance to each of its four walls.
# Any point in the room gives four other numbers, and all describe the same room.

# %% [markdown] id="task-2-2-text" task="2.2"
# ### Task 2.2: deltas from locations (`fcos_get_deltas_from_locations`)
#
# - Which of the four is $y - y_1$, and are all four positive inside the box?
# - Background rows of `gt_boxes` are −1. What would the formula give there, and what must you give?
# - Does your code also work on boxes *without* a class column?

# %% id="task-2-2" task="2.2"
check("2.2")

# %% [markdown] id="task-2-3-text" task="2.3"
# ### Task 2.3: and back again (`fcos_apply_deltas_to_locations`)
#
# - The network may predict a negative distance. A box always contains its location: what do you do?
# - A row with only *one* negative delta: what happens to the other three?
# - Where does the stride go?

# %% id="task-2-3" task="2.3"
check("2.3")

# %% [markdown] id="round-trip-text"
# There and back must give the boxes we began with. But beware: if both functions have the *same* wrong sign, the round
# trip still works. That is why the picture below draws the distances themselves.

# %% id="round-trip"
from helpers.targets import ltrb_figure
from one_stage_detector import fcos_apply_deltas_to_locations, fcos_get_deltas_from_locations

locations = locations_of(image)
matched = fcos_match_locations_to_gt(locations, STRIDES, gt_boxes)
for level, stride in STRIDES.items():
    positive = matched[level][:, 4] >= 0
    deltas = fcos_get_deltas_from_locations(locations[level][positive], matched[level][positive], stride)
    boxes = fcos_apply_deltas_to_locations(deltas, locations[level][positive], stride)
    error = (boxes - matched[level][positive, :4]).abs().max().item() if positive.any() else 0.0
    print(f"{level}: {int(positive.sum()):3d} positive locations, largest error of the round trip {error:.1e} pixels")

deltas = {level: fcos_get_deltas_from_locations(locations[level], matched[level], STRIDES[level]) for level in STRIDES}
ltrb_figure(image, locations, deltas, STRIDES)

# %% [markdown] id="centerness-text"
# ## 6. Centerness
#
# **Why.** A location near the border of an object sees little of it and predicts a poor box. Many poor boxes with a
# high class score hurt precision.
#
# **What.** FCOS lets the network estimate how central a location is, and multiplies that into the score
# ([section 3.3](https://arxiv.org/abs/1904.01355), equation 3):
#
# $$\mathrm{centerness} = \sqrt{\frac{\min(l, r)}{\max(l, r)} \times \frac{\min(t, b)}{\max(t, b)}}$$
#
# It is 1 at the centre and falls to 0 at the sides. The root slows the fall. In training it is a target, learned with
# binary cross-entropy; at test time it only lowers the rank of boxes from the edge, and NMS then removes them.

# %% [markdown] id="task-2-4-text" task="2.4"
# ### Task 2.4: centerness targets (`fcos_make_centerness_targets`)
#
# - A location with $l = 1, r = 3, t = 2, b = 2$: what is the value, by hand?
# - $\min(l, r)$ is over two numbers of *one* location. Which `torch` function is element-wise?
# - Background deltas are −1 everywhere. The formula would make that 1, the best value there is!

# %% id="task-2-4" task="2.4"
check("2.4")

# %% id="centerness-map"
from helpers.visualize import centerness_map
from one_stage_detector import fcos_make_centerness_targets

locations = locations_of(image)
largest = ((gt_boxes[:, 2] - gt_boxes[:, 0]) * (gt_boxes[:, 3] - gt_boxes[:, 1])).argmax()
box = gt_boxes[largest]
inside = fcos_get_deltas_from_locations(locations["p3"], box.expand(len(locations["p3"]), 5), STRIDES["p3"])
centerness = torch.where(inside.amin(dim=1) > 0, fcos_make_centerness_targets(inside.clamp(min=1e-6)), -1.0)
centerness_map(image, box, locations["p3"], centerness)

# %% [markdown] id="q-centerness"
# **Question 4.** Two detections of one object both have class probability 0.9; their boxes overlap the object with
# IoU 0.9 and 0.55. What decides which of them survives NMS if there is no centerness? What changes with it?

# %% [markdown] id="answer-centerness" points=2
# NMS keeps the one with the higher score whatever its box is like, so without centerness it is chance, and the poor box
# may suppress the good one. With centerness the score of the box that was predicted from the border is lowered, so that
# the well localised one ranks first and removes the other.

# %% [markdown] id="loss-text"
# ## 7. Three losses
#
# For all locations of all levels ([section 3.1](https://arxiv.org/abs/1904.01355), equation 2, plus the centerness
# loss of section 3.3), with $N$ a moving average of the number of positive locations in an image:
#
# $$\mathcal{L} = \frac1N \sum_{\text{all}} \mathrm{focal}(p, c^*)
#   \; + \; \frac1N \sum_{\text{positive}} \tfrac14 \lVert \delta - \delta^* \rVert_1
#   \; + \; \frac1N \sum_{\text{positive}} \mathrm{BCE}(q, \mathrm{centerness}^*)$$
#
# **Classes, focal loss.** Thousands of locations are easy background. Each costs little, together they shout down the
# few positives. The focal loss $-\alpha_t (1 - p_t)^\gamma \log p_t$ turns the volume of the easy ones down: at $p_t
# = 0.99$ and $\gamma = 2$ by a factor of 10 000. It has $K$ *binary* classifiers and no background class: background
# is "none of them", an all-zero target. `torchvision.ops.sigmoid_focal_loss` takes logits.
#
# **Boxes, L1.** A quarter of the summed distance error. The paper uses an IoU loss; L1 on normalised distances is
# simpler and works well here.
#
# **Why sums divided by $N$, and not means?** The mean over all locations would depend on how much background an image
# has. And a batch with one small object would swing the loss if we divided by *its* count; the moving average is
# steady.

# %% [markdown] id="task-3-1-text" task="3.1"
# ### Task 3.1: put it together (`one_stage_detector.py`, `FCOS`)
#
# Backbone, head, locations, matching, targets, losses: you have all the parts. Questions that have cost people
# evenings:
# - Class −1 is background. What does `one_hot` say to −1, and how do you make its row all zeros?
# - Are box and centerness loss taken over *positive* locations only?
# - Is the normaliser updated *before* you divide? Is it the count of an *image*, so divided by the size of the batch?
# - Does it work when an image has no object at all? (A sum over nothing is 0, a mean over nothing is NaN.)
# - Do the levels stand in the same order in predictions and targets?

# %% id="task-3-1" task="3.1"
check("3.1")

# %% [markdown] id="overfit-text"
# ## 8. Overfit on purpose
#
# Before an hour of training, a minute of sanity: a correct detector can learn a handful of images by heart. If its loss
# does not fall here, it will not fall on thousands of images either, and here you find out for free.
#
# Don't be alarmed by the beginning: the normaliser starts at 150 and glides to its true value over some 30
# iterations, so the loss may *rise* before it falls.

# %% id="overfit"
from helpers import train_detector
from helpers.live import LiveCurves

reset_seed(0)
few = Subset(whole_train_set, range(8 if QUICK_RUN else 10))
overfit_iters = min(80 if QUICK_RUN else 500, MAX_ITERS)
overfit_recipe = RECIPE if QUICK_RUN else {"learning_rate": 5e-3}  # by heart, so without what helps on other images
small_detector = make_detector()
live = LiveCurves(title=f"{len(few)} images by heart: the loss must fall clearly")
history = train_detector(
    small_detector,
    make_loader(few),
    max_iters=overfit_iters,
    log_period=2,
    device=DEVICE,
    on_row=live,
    **overfit_recipe,
)
live.draw(history)
print(f"loss {history.column('loss')[0]:.2f} -> {history.column('loss')[-1]:.2f}")

# %% [markdown] id="task-3-2-text" task="3.2"
# ### Task 3.2: the grader does the same
#
# It trains your detector for about a hundred steps on a small set and asks that the loss falls as the reference's
# does. That takes longer than a check should, so it has no public test. If your own curve above falls like that, you
# are fine.

# %% id="task-3-2" task="3.2"
check("3.2")

# %% [markdown] id="train-text"
# ## 9. Train
#
# The long cell. It saves a checkpoint every 500 iterations into `runs/` beside your files (in Colab, on your Drive).
# If the machine goes away, open the notebook again, run the cells of sections 0 and 1 and then this one: it goes on
# where it stopped.
#
# `RESUME = False` throws the checkpoint away and starts anew. Do that after you have fixed something in model or loss.
#
# **The recipe of the full run.** Plain training shows the same 2501 photographs in the same order 57 times, and the
# detector learns them by heart: the loss falls to 0.8, and on new images it reaches 31 % mAP. With the same network the
# recipe in `RECIPE` and `AUGMENTATION` reaches 53 %, and 52 % after 6000 steps already (all measured with MobileNetV2
# on VOC2007):
# - images come in a new order in every epoch, half of them mirrored, each scaled and cut out anew,
# - the backbone learns ten times slower than the new layers: it has learned from a million photographs of ImageNet what
#   things look like, and would forget it for 2501,
# - AdamW divides each gradient by its own usual size, so that your stems, whose small first weights and missing norms
#   make their gradients tiny, learn from the first hundred steps on,
# - the learning rate rises over the first 300 steps, while the new layers are still random, then falls along a cosine,
# - gradients of unusual length are shortened, so that one odd batch cannot throw the weights away,
# - what you get at the end is an average over the last few hundred steps' weights, which is steadier than the last ones.

# %% id="train"
from helpers import train_detector
from helpers.live import LiveCurves

RESUME = not QUICK_RUN

if not RESUME:
    checkpoint.unlink(missing_ok=True)
elif checkpoint.exists():
    print(
        f"Going on from {checkpoint.name}, saved {time.ctime(checkpoint.stat().st_mtime)}; RESUME = False starts anew."
    )

reset_seed(0)
detector = make_detector()
live = LiveCurves()
history = train_detector(
    detector,
    make_loader(train_set),
    max_iters=MAX_ITERS,
    log_period=5 if QUICK_RUN else 50,
    device=DEVICE,
    checkpoint=checkpoint,
    resume=True,
    on_row=live,
    **RECIPE,
)
torch.save(detector.state_dict(), weights_file)
live.draw(history)
print(f"loss {history.column('loss')[0]:.2f} -> {history.column('loss')[-1]:.2f}, weights in {weights_file}")

# %% [markdown] id="loss-reading"
# A healthy full run, here one with MobileNetV2: total loss about 1.9 at iteration 1000, 1.6 at 3000, 1.4 at 6000, and
# 1.3 at the end, of which centerness (0.6) and boxes (0.5) are the largest parts, then classes (0.2). That is more than
# the 0.8 of plain training, and the detector is far better: the loss is measured on images that are new each time, and
# so are those of the exam. A run whose class loss ends at 0.35 is broken, even though its curve falls.

# %% [markdown] id="q-loss"
# **Question 5.** Look at your curve. Which of the three losses hardly falls at all, and why can it not reach zero
# even for a perfect detector? (Think of the target of a binary cross-entropy that is neither 0 nor 1.)

# %% [markdown] id="answer-loss" points=2
# The centerness loss. Its target is a number between 0 and 1, and the binary cross-entropy of a target t is smallest
# at the prediction t, where it equals the entropy of t: for t = 0.5 that is log 2 = 0.69. Only targets of exactly 0
# or 1 have a minimum of zero. Focal loss and L1 can both reach zero.

# %% [markdown] id="nms-text"
# ## 10. Non-maximum suppression
#
# **Why.** All locations inside an object predict it, so one dog gives thirty boxes. NMS keeps the best of each heap.
#
# **How.** Sort by score. Take the best box, keep it, and drop every other box whose overlap with it,
# $\mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|}$, is **greater than** the threshold. Repeat with what is left.

# %% [markdown] id="task-4-1-text" task="4.1"
# ### Task 4.1: NMS (`common.py`, `nms`)
#
# - Are width and height of an intersection clamped at 0 *before* they are multiplied? (Minus times minus is plus.)
# - How many pairs are there among 5000 boxes? Compute one box against all others at once.
# - What comes out for no box at all? In which order, and of which dtype, are the indices?
# - Does your loop end when two boxes are identical, or when the threshold is 1?

# %% id="task-4-1" task="4.1"
check("4.1")

# %% [markdown] id="nms-compare-text"
# Compare with torchvision. On boxes with continuous coordinates no two overlaps are equal, so the *order* must be the
# same to the last index. On boxes with whole coordinates ties occur, and even two correct programs may break them
# differently; there we ask that nearly all kept boxes agree, in both directions. Recall alone would call an NMS that
# keeps everything perfect.

# %% id="nms-compare"
from common import nms


def random_boxes(count, whole=False):
    corner = 300 * torch.rand(count, 2)
    boxes = torch.cat([corner, corner + 10 + 90 * torch.rand(count, 2)], dim=1)
    return (boxes.round() if whole else boxes), torch.rand(count)


def seconds(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    if result.is_cuda:
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


reset_seed(0)
for threshold in (0.3, 0.5, 0.7):
    boxes, scores = random_boxes(1000)
    ours, theirs = nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold)
    same = torch.equal(ours.cpu(), theirs)
    print(f"continuous boxes, threshold {threshold}: {len(theirs):3d} kept, {'same order' if same else 'DIFFERENT'}")

    boxes, scores = random_boxes(1000, whole=True)
    ours, theirs = (set(f(boxes, scores, threshold).tolist()) for f in (nms, torchvision.ops.nms))
    recall, precision = (len(ours & theirs) / max(len(kept), 1) for kept in (theirs, ours))
    verdict = "fine" if min(recall, precision) > 0.95 else "NOT the same boxes"
    print(f"whole boxes,      threshold {threshold}: recall {recall:.3f}, precision {precision:.3f}, {verdict}")

for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    boxes, scores = (values.to(device) for values in random_boxes(5000))
    nms(boxes[:10], scores[:10], 0.5)  # the first call on a GPU pays for loading its programs
    (_, ours), (_, theirs) = seconds(nms, boxes, scores, 0.5), seconds(torchvision.ops.nms, boxes, scores, 0.5)
    print(
        f"5000 boxes on {device}: yours {1000 * ours:.0f} ms, torchvision {1000 * theirs:.1f} ms ({ours / theirs:.0f}x)"
    )

# %% [markdown] id="inference-text"
# ## 11. Inference
#
# **What.** The head says three things at each location; turn them into a short list of boxes:
#
# 1. score of each class: $\sqrt{\sigma(\text{class logit}) \cdot \sigma(\text{centerness logit})}$ (section
#    [3.3](https://arxiv.org/abs/1904.01355) multiplies the two; the root keeps the scale of a probability and does
#    not change the order),
# 2. the best class of each location, and out with those that score too low,
# 3. deltas to boxes, and clip them to the image,
# 4. all levels together, then NMS *for each class*: a person never suppresses the horse below.

# %% [markdown] id="task-4-2-text" task="4.2"
# ### Task 4.2: inference (`FCOS.inference`)
#
# - The image is wider than high. Which of $x$ and $y$ is clipped to the width?
# - Is a location with a low score *removed*, or does it stay with a class of −1?
# - An image without detections: are your three tensors empty, with shapes `(0, 4)`, `(0,)`, `(0,)`?

# %% id="task-4-2" task="4.2"
check("4.2")

# %% [markdown] id="decode-text"
# Watch it work: boxes before and after NMS, then detections against the truth. The cell loads the weights that training
# has saved, so after a pause you can go on from here (run sections 0 and 1 first). In the quick run the images are those
# that it was trained on.

# %% id="decode"
from common import nms
from helpers.visualize import nms_before_after

detector = load_detector()
_, image, _ = eval_set[1]
with torch.no_grad():
    # NMS at threshold 1 removes nothing, so these are the boxes as they come out of the head.
    boxes, classes, scores = detector(image[None].to(DEVICE), test_score_thresh=0.3, test_nms_thresh=1.0)
boxes, classes, scores = boxes.cpu(), classes.cpu(), scores.cpu()
best = classes == (classes[scores.argmax()] if len(scores) else 0)
nms_before_after(image, boxes[best], scores[best], nms(boxes[best], scores[best], 0.5))

# %% id="detections"
from helpers import detect

shown = [eval_set[n] for n in range(8)]
found = detect(load_detector(), shown, score_thresh=0.4, nms_thresh=0.5, progress=False)
detection_grid(
    [image for _, image, _ in shown],
    idx_to_class,
    ground_truth=[gt for _, _, gt in shown],
    predictions=[
        torch.cat([boxes, classes[:, None].to(boxes), scores[:, None]], dim=1)  # (N, 6)
        for boxes, classes, scores in found.values()
    ],
    title="Detections with a score above 0.4",
)

# %% [markdown] id="q-decode"
# **Question 6.** Put these steps into the right order, and say for one neighbouring pair why it must not be swapped:
# *NMS for each class · sigmoid · threshold on the score · deltas to boxes · multiply with centerness · clip to the
# image.*

# %% [markdown] id="answer-decode" points=2
# Sigmoid, multiply with centerness (and the root), threshold on the score, deltas to boxes, clip to the image, NMS for
# each class. Threshold and multiplication must not be swapped: the threshold is on the final score, or boxes from the
# border with a high class probability pass that the centerness would have removed. (Or: clip before NMS, since IoU must
# be that of the boxes that are really returned.)

# %% [markdown] id="map-text"
# ## 12. How good is it? Mean average precision
#
# **What.** Sort all detections of a class by score and walk down the list. A detection is *right* if it overlaps an
# object of its class with IoU of at least 0.5 that no surer detection has claimed; a second hit on the same object is
# wrong. After each step,
#
# $$\text{precision} = \frac{\text{right so far}}{\text{detections so far}}, \qquad
#   \text{recall} = \frac{\text{right so far}}{\text{objects there are}}.$$
#
# The area under precision over recall is the *average precision* (AP) of the class, and its mean over the classes is
# mAP.
#
# **Two traps.** Objects in images *without any* detection still count: leave them out and mAP looks better than it
# is. And evaluate with a low score threshold: cutting at 0.4 cuts the curve, though the pictures look nicer.

# %% id="map"
from helpers import detect, evaluate_voc
from helpers.inference import ground_truth_of
from helpers.misses import miss_gallery
from helpers.plots import ap_bars, precision_recall_curves

predictions = detect(load_detector(), eval_set, score_thresh=0.05, nms_thresh=0.5)
ground_truth = ground_truth_of(eval_set)
result = evaluate_voc(predictions, ground_truth, NUM_CLASSES)
what = f"the {len(eval_set)} images that it was trained on" if QUICK_RUN else f"{len(eval_set)} images never seen"
print(f"mAP {100 * result.mean_ap:.1f} % at IoU 0.5 on {what}")

there = {idx_to_class[k]: one for k, one in enumerate(result.classes) if one.num_objects}
display(ap_bars({name: one.ap for name, one in there.items()}))
display(precision_recall_curves({name: (one.recall, one.precision, one.ap) for name, one in there.items()}))
display(miss_gallery(eval_set, predictions, ground_truth, idx_to_class))

# %% [markdown] id="q-failures"
# **Question 7.** The last figure is a gallery of misses. Pick two of them, say what kind of error each is (nothing
# found, wrong class, box too loose or too tight, two objects as one), and name one change to model or training that
# could help.

# %% [markdown] id="answer-failures" points=2
# Depends on the run. Good answers name the kind of error from the picture (for instance a small object that nothing
# was found for, or two overlapping objects of one class of which NMS removed one) and a remedy that fits it: higher
# resolution or a finer level for small objects, more data or augmentation for confused classes, another NMS threshold
# or soft-NMS for crowds, an IoU loss for loose boxes.

# %% [markdown] id="task-5-1-text" task="5.1"
# ### Task 5.1: mAP on held-out images
#
# The grader runs your `FCOS(num_classes=20, fpn_channels=64, stem_channels=[64, 64])` with the `fcos_detector.pt` that
# you hand in, on images that your course has chosen, and computes mAP as above. Points come in three steps. So hand in
# what the full run has trained; a quick run, which has another backbone, will not do. Train on "train" alone: then the
# figure above, on "val", tells you where you stand. There is no public test.

# %% id="task-5-1" task="5.1"
check("5.1")

# %% [markdown] id="submit-text"
# ## 13. Hand in
#
# Run all checks once more, **save the notebook** (Ctrl+S), then fill in your name and id. The cell packs your two
# files and this notebook into `<id>_fcos.zip`, opens the zip again, and compares each file with what it meant to
# pack. If something is in the way, it says what.

# %% id="check-all"
check.all()

# %% id="submit"
from helpers.submission import describe_submission, make_submission, read_identity

NAME = os.environ.get("FCOS_NAME", "")  # as in the class list
STUDENT_ID = os.environ.get("FCOS_STUDENT_ID", "")  # of a group: those of all, as in "u1234567+u7654321"

name, student_id = read_identity(NAME, STUDENT_ID)
zip_file = make_submission(
    workspace.assignment,
    name,
    student_id,
    notebook=workspace.notebook,
    weights=full_weights if full_weights.exists() else None,
)
print(describe_submission(zip_file))
if not full_weights.exists():
    print(f"There are no trained weights in it: the full run makes them ({full_weights.name}).")

# %% [markdown] id="end"
# That is a complete object detector, and you wrote all of it. If you want to go on: replace L1 by a GIoU loss, sample
# only locations near the centre, or move centerness to the class stem, where figure 2 of the paper has it, and see
# how much each is worth. Table 3 tells you what the authors found.
