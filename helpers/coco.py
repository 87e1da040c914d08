"""COCO's way to measure a detector, through faster-coco-eval or pycocotools (an optional extra).

COCO averages AP over ten overlaps (0.50, 0.55, ..., 0.95), so that a loose box earns less than a tight one, and also
reports it for small, medium and large objects. Source: Lin et al., "Microsoft COCO", ECCV 2014, and pycocotools.
"""

import contextlib
import io
from collections.abc import Mapping

import numpy as np

from helpers.evaluation import stack

INSTALL = "COCO figures need an extra package: pip install faster-coco-eval (or: pip install pycocotools)"
# name -> its place in the twelve numbers that both packages summarise
FIGURES = {"AP": 0, "AP50": 1, "AP75": 2, "AP small": 3, "AP medium": 4, "AP large": 5}


def coco_dataset(predictions: Mapping, ground_truth: Mapping, num_classes: int) -> tuple[dict, list[dict]]:
    """Write detections and objects in COCO's format.

    Args:
        predictions: as in `helpers.evaluation.evaluate_voc`.
        ground_truth: the same; a difficult object becomes a crowd region, which COCO ignores (a little more leniently
            than VOC does: any detection mostly inside it is forgiven).
        num_classes: K.

    Returns:
        (data set, list of results). Images are numbered from 1 in the order of `ground_truth`, classes from 1.
    """
    detections, scores, objects, difficult = stack(predictions, ground_truth, num_classes)
    truth = [
        {"id": n + 1, **row, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": int(difficult[n])}
        for n, row in enumerate(_rows(objects))
    ]
    results = [{**row, "score": float(score)} for row, score in zip(_rows(detections), scores)]
    data = {
        "info": {},
        "images": [{"id": n + 1} for n in range(len(ground_truth))],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(num_classes)],
        "annotations": truth,
    }
    return data, results


def _rows(boxes) -> list[dict]:
    corner_and_size = np.hstack([boxes.boxes[:, :2], boxes.boxes[:, 2:] - boxes.boxes[:, :2]])
    rows = zip(boxes.image + 1, boxes.classes + 1, corner_and_size.tolist())
    return [{"image_id": int(i), "category_id": int(k), "bbox": box} for i, k, box in rows]


def evaluate_coco(predictions: Mapping, ground_truth: Mapping, num_classes: int) -> dict[str, float | None]:
    """AP over ten overlaps, at 0.5 and 0.75, and for small, medium and large objects.

    Small is below 32 x 32 pixels, large above 96 x 96, measured on the boxes as they are passed in.

    Args:
        predictions: as in `helpers.evaluation.evaluate_voc`.
        ground_truth: the same.
        num_classes: K.

    Returns:
        Name -> value from 0 to 1; `None` where there is no object of that size.

    Raises:
        ImportError: neither package is installed; the message says what to install.
        ValueError: as in `evaluate_voc`.
    """
    COCO, COCOeval = _package()
    data, results = coco_dataset(predictions, ground_truth, num_classes)
    if not results:  # both packages fail on an empty list
        results = [{"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 0.0, 0.0], "score": 0.0}]
    with contextlib.redirect_stdout(io.StringIO()):  # both print a page of progress
        target = COCO()
        target.dataset = data
        target.createIndex()
        judge = COCOeval(target, target.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    # Both write -1 where there is nothing to be found.
    return {name: float(judge.stats[n]) if judge.stats[n] >= 0 else None for name, n in FIGURES.items()}


def _package():
    with contextlib.suppress(ImportError):
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return COCO, COCOeval
