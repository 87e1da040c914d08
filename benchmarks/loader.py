"""How fast do images come? From the cache, against decoding and resizing them each time.

    python benchmarks/loader.py [--json FILE]

The training images of the folder that FCOS_VOC_ROOT names, else of a generated sample; 224 pixels, batches of 16, one
process with one thread. "as the original" is the chain of torchvision transforms that the original assignment uses.
Building the cache, which happens once, is timed apart.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.dataset import VOC2007DetectionTiny, collate
from helpers.sample import make_sample

IMAGES, ROUNDS = 800, 5


class AsTheOriginal(Dataset):
    """Decodes, resizes, crops and normalises every image every time; targets are prepared, so they cost nothing."""

    def __init__(self, dataset: VOC2007DetectionTiny):
        self.paths = [a.path for a in dataset.annotations]
        self.targets = torch.full((dataset.max_boxes, 5), -1.0)
        self.transform = transforms.Compose(
            [
                transforms.Resize(224),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return str(self.paths[index]), self.transform(Image.open(self.paths[index]).convert("RGB")), self.targets


def seconds_per_image(dataset):
    start = time.perf_counter()
    count = sum(len(images) for _, images, _ in DataLoader(dataset, batch_size=16, collate_fn=collate))
    return (time.perf_counter() - start) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = os.environ.get("FCOS_VOC_ROOT") or make_sample(Path(folder) / "sample")
        cache = Path(folder) / "cache"
        plain = VOC2007DetectionTiny(root, "train")
        start = time.perf_counter()
        mapped = VOC2007DetectionTiny(root, "train", cache=cache)
        building = time.perf_counter() - start
        moved = {"hflip": 0.5, "scale_jitter": (0.7, 1.4), "color_jitter": 0.2}
        variants = {
            "as the original": AsTheOriginal(plain),
            "ours, no cache": plain,
            "memory-mapped cache": mapped,
            "cache in memory": VOC2007DetectionTiny(root, "train", cache="memory"),
            "cache, flip": VOC2007DetectionTiny(root, "train", cache=cache, hflip=0.5),
            "cache, all augmentations": VOC2007DetectionTiny(root, "train", cache=cache, **moved),
        }
        some = [i % len(plain) for i in range(IMAGES)]
        # In turns, and the best of all rounds: another program that runs for a while then disturbs all of them alike.
        rounds = [{n: seconds_per_image(Subset(v, some)) for n, v in variants.items()} for _ in range(ROUNDS)]
    rates = {name: 1 / min(r[name] for r in rounds) for name in variants}

    base = rates["as the original"]
    print(f"{len(some)} images a round; building the cache of {len(plain)} once took {building:.1f} s")
    print(f"{'':26}{'images/s':>10}{'ratio':>8}")
    for name, rate in rates.items():
        print(f"{name:26}{rate:10.0f}{rate / base:8.1f}")
    if args.json:
        ratios = {f"{name} / as the original": rate / base for name, rate in rates.items() if rate is not base}
        args.json.write_text(json.dumps({"ratios": ratios}, indent=2) + "\n")


if __name__ == "__main__":
    main()
