"""Overfit the reference on a few real images, and measure mAP on those same images: does the whole detector learn?

    FCOS_VOC_ROOT=... FCOS_BACKBONE_WEIGHTS=... python benchmarks/overfit.py [--json FILE]

A correct detector reaches well above 60 % (area AP at IoU 0.5) on 160 images after 1000 iterations of 16.
Started again, it goes on from its checkpoint.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "solutions"))

from one_stage_detector import FCOS

from helpers.dataset import VOC2007DetectionTiny, collate
from helpers.evaluation import evaluate_voc
from helpers.inference import detect
from helpers.seed import reset_seed
from helpers.train import train_detector


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "overfit")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    voc, weights = os.environ.get("FCOS_VOC_ROOT"), os.environ.get("FCOS_BACKBONE_WEIGHTS")
    if not voc or not weights:
        sys.exit(
            "set FCOS_VOC_ROOT to the folder that holds VOCdevkit, and FCOS_BACKBONE_WEIGHTS to a MobileNetV2 file"
        )

    reset_seed(0)
    dataset = VOC2007DetectionTiny(voc, "train", image_size=224)
    images = [dataset[i] for i in range(args.images)]  # decoded once
    detector = FCOS(20, fpn_channels=64, stem_channels=[64, 64], weights=weights, backbone="mobilenet_v2")
    args.out.mkdir(parents=True, exist_ok=True)
    history = train_detector(
        detector,
        DataLoader(images, batch_size=16, shuffle=True, drop_last=True, collate_fn=collate),
        learning_rate=1e-2,
        max_iters=args.iterations,
        warmup_iters=50,
        schedule="cosine",
        channels_last=True,
        checkpoint=args.out / f"checkpoint-{args.images}-{args.iterations}.pt",
        checkpoint_period=100,
        resume=True,
    )
    torch.save(detector.state_dict(), args.out / "detector.pt")
    predictions = detect(detector, images, score_thresh=0.05, nms_thresh=0.5)
    truth = {key: dataset.ground_truth(key) for key in predictions}
    result = evaluate_voc(predictions, truth, num_classes=20)
    last = history.rows[-1]
    print(f"{args.images} images, {args.iterations} iterations of 16: mAP on the same images {result.mean_ap:.1%}")
    print("last losses: " + ", ".join(f"{name} {last[name]:.3f}" for name in ("loss_cls", "loss_box", "loss_ctr")))
    if args.json:
        args.json.write_text(json.dumps({"ratios": {"mAP": result.mean_ap}, "losses": last}, indent=2) + "\n")


if __name__ == "__main__":
    main()
