"""How long does it take to measure a detector? Ours against pycocotools at the same single threshold and area range.

    python benchmarks/evaluation.py [--json FILE]

2510 images, 40,000 detections and 6,300 objects of 20 classes, drawn at random. Both get the same boxes and both are
timed from boxes in memory to AP per class, best of three; building pycocotools' dictionaries is not charged to it.
"""

import argparse
import contextlib
import io
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.coco import coco_dataset
from helpers.evaluation import evaluate_voc

IMAGES, DETECTIONS, OBJECTS, CLASSES = 2510, 40_000, 6_300, 20


def draw_case(rng):
    image = np.sort(rng.integers(0, IMAGES, OBJECTS))
    corner = rng.uniform(0, 300, (OBJECTS, 2))
    boxes = np.hstack([corner, corner + rng.uniform(20, 200, (OBJECTS, 2))])
    classes = rng.integers(0, CLASSES, OBJECTS)
    # A third of the detections sit on an object, the others elsewhere in an image that has objects.
    source = rng.integers(0, OBJECTS, DETECTIONS)
    near = rng.random(DETECTIONS) < 1 / 3
    guess = boxes[source] + rng.normal(0, 1, (DETECTIONS, 4)) * np.where(near, 6, 60)[:, None]
    guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
    named = np.where(rng.random(DETECTIONS) < 0.8, classes[source], rng.integers(0, CLASSES, DETECTIONS))
    scores = rng.random(DETECTIONS)
    truth, predictions = {}, {}
    for i in range(IMAGES):
        here, found = image == i, image[source] == i
        truth[i] = (boxes[here], classes[here], np.zeros(here.sum(), bool))
        predictions[i] = (guess[found], named[found], scores[found])
    return predictions, truth


def best_of(times, work):
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    predictions, truth = draw_case(np.random.default_rng(0))
    with contextlib.redirect_stdout(io.StringIO()):
        target = COCO()
        target.dataset, results = coco_dataset(predictions, truth, CLASSES)
        target.createIndex()
        found = target.loadRes(results)

    def pycocotools():
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(target, found, "bbox")
            judge.params.iouThrs = np.array([0.5])
            judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
            judge.params.maxDets = [100]
            judge.evaluate()
            judge.accumulate()
        return judge.eval["precision"][0, :, :, 0, 0].mean(axis=0)

    theirs, expected = best_of(3, pycocotools)
    print(f"{DETECTIONS} detections in {IMAGES} images, IoU 0.5\n")
    print(f"{'':32}{'seconds':>9}{'mAP':>8}{'ratio':>8}")
    print(f"{'pycocotools (101-point)':32}{theirs:9.3f}{expected.mean():8.4f}{1:8.1f}")
    ratios = {}
    for mode in ("area", "101-point"):
        ours, result = best_of(3, lambda mode=mode: evaluate_voc(predictions, truth, CLASSES, 0.5, mode))
        ratios[f"pycocotools / evaluate_voc ({mode})"] = theirs / ours
        print(f"{f'evaluate_voc ({mode})':32}{ours:9.3f}{result.mean_ap:8.4f}{theirs / ours:8.1f}")
    difference = np.abs(result.ap - expected).max()
    print(f"\nlargest difference of a class's 101-point AP: {difference:.1e}")
    if args.json:
        args.json.write_text(json.dumps({"ratios": ratios}, indent=2) + "\n")


if __name__ == "__main__":
    main()
