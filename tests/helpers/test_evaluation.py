"""Average precision against numbers worked out by hand, a brute-force implementation, and pycocotools."""

import contextlib
import io
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.evaluation import MODES, evaluate_as_original, evaluate_voc, keep_above

BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # IoU with BOX: 50 / 100 = 0.5 exactly


def objects(*boxes, difficult=None):
    """Ground truth of one image, all of class 0."""
    return np.array(boxes).reshape(-1, 4), np.zeros(len(boxes), int), np.array(difficult or [False] * len(boxes), bool)


def detections(*scored):
    """Predictions of one image, all of class 0, from (box, score)."""
    boxes = np.array([box for box, _ in scored]).reshape(-1, 4)
    return boxes, np.zeros(len(scored), int), np.array([score for _, score in scored])


# name, predictions, ground truth, AP by area, AP by 11 points
BY_HAND = [
    ("perfect", {1: detections((BOX, 0.9))}, {1: objects(BOX)}, 1.0, 1.0),
    ("nothing_found", {}, {1: objects(BOX)}, 0.0, 0.0),
    # One of two objects, first: area 1/2; of the recalls 0, .1 ... 1 six are at or below 1/2.
    ("image_without_detection_counts", {1: detections((BOX, 0.9))}, {1: objects(BOX), 2: objects(BOX)}, 0.5, 6 / 11),
    # Wrong, then right: precision 1/2 at recall 1, and the envelope carries it down to recall 0.
    ("wrong_first", {1: detections((FAR, 0.9), (BOX, 0.8))}, {1: objects(BOX)}, 0.5, 0.5),
    # The second detection of an object is wrong, but comes after full recall.
    ("duplicate_after", {1: detections((BOX, 0.9), (BOX, 0.8))}, {1: objects(BOX)}, 1.0, 1.0),
    # right, duplicate, right: precision 1 at recall 1/2, then 2/3 at recall 1.
    (
        "duplicate_between",
        {1: detections((BOX, 0.9), (BOX, 0.8), (FAR, 0.7))},
        {1: objects(BOX, FAR)},
        0.5 * 1 + 0.5 * 2 / 3,
        (6 * 1 + 5 * 2 / 3) / 11,
    ),
    # Both detections of the difficult object count neither way, even before the right one.
    (
        "difficult_ignored",
        {1: detections((FAR, 0.9), (FAR, 0.8), (BOX, 0.7))},
        {1: objects(FAR, BOX, difficult=[True, False])},
        1.0,
        1.0,
    ),
    ("overlap_equal_to_threshold_counts", {1: detections((HALF, 0.9))}, {1: objects(BOX)}, 1.0, 1.0),
    ("other_image_does_not_count", {2: detections((BOX, 0.9))}, {1: objects(BOX), 2: objects(FAR)}, 0.0, 0.0),
]


@pytest.mark.parametrize(
    ("predictions", "truth", "area", "points"), [c[1:] for c in BY_HAND], ids=[c[0] for c in BY_HAND]
)
def test_ap_worked_out_by_hand(predictions, truth, area, points):
    assert evaluate_voc(predictions, truth, 1).mean_ap == pytest.approx(area)
    assert evaluate_voc(predictions, truth, 1, mode="11-point").mean_ap == pytest.approx(points)


def test_curve_has_one_point_per_detection():
    predictions = {1: detections((BOX, 0.9), (BOX, 0.8), (FAR, 0.7))}
    (result,) = evaluate_voc(predictions, {1: objects(BOX, FAR)}, 1).classes
    assert result.num_objects == 2
    np.testing.assert_allclose(result.recall, [1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(result.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(result.scores, [0.9, 0.8, 0.7])


def test_pixel_offset_lets_a_box_of_one_pixel_have_an_area():
    point = [3.0, 3.0, 3.0, 3.0]
    predictions, truth = {1: detections((point, 0.9))}, {1: objects(point)}
    assert evaluate_voc(predictions, truth, 1).mean_ap == 0
    assert evaluate_voc(predictions, truth, 1, pixel_offset=1).mean_ap == 1


def test_coco_rule_lets_a_detection_take_its_second_best_object():
    left, right, middle = [0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [0.5, 0.0, 10.5, 10.0]
    predictions = {
        1: detections((left, 0.9), (middle, 0.8))
    }  # both overlap `left` most; `middle` also overlaps `right`
    truth = {1: objects(left, right)}
    assert evaluate_voc(predictions, truth, 1).mean_ap == pytest.approx(0.5)
    assert evaluate_voc(predictions, truth, 1, mode="101-point").mean_ap == pytest.approx(1.0)


def test_class_without_objects_is_left_out_of_the_mean():
    result = evaluate_voc({1: (np.array([BOX, BOX]), np.array([0, 2]), np.array([0.9, 0.8]))}, {1: objects(BOX)}, 3)
    assert np.isnan(result.ap[1])
    assert np.isnan(result.ap[2])
    assert result.mean_ap == 1.0
    assert result.as_dict({0: "cat", 1: "dog", 2: "cow"})["AP"] == {"cat": 1.0, "dog": None, "cow": None}


def test_tensors_and_arrays_give_the_same():
    predictions, truth = random_case(np.random.default_rng(1))
    as_tensors = [{i: tuple(map(torch.as_tensor, row)) for i, row in rows.items()} for rows in (predictions, truth)]
    np.testing.assert_array_equal(evaluate_voc(*as_tensors, 3).ap, evaluate_voc(predictions, truth, 3).ap)


def test_original_evaluation_forgets_images_without_detection():
    predictions = {1: detections((BOX, 0.9)), 2: detections((BOX, 0.3))}
    truth = {1: objects(BOX), 2: objects(BOX), 3: objects(BOX)}
    assert evaluate_voc(keep_above(predictions, 0.4), truth, 1).mean_ap == pytest.approx(1 / 3)
    assert evaluate_as_original(predictions, truth, 1).mean_ap == 1.0
    assert evaluate_as_original({}, truth, 1) is None


def test_original_evaluation_takes_a_difficult_object_for_none():
    far = [70.0, 70.0, 90.0, 90.0]
    truth = {1: (np.array([BOX, far]), np.array([0, 0]), np.array([False, True]))}
    predictions = {1: detections((far, 0.9), (BOX, 0.8))}
    assert evaluate_voc(predictions, truth, 1).mean_ap == 1
    assert evaluate_as_original(predictions, truth, 1).mean_ap == 0.5
    assert evaluate_as_original({1: detections((far, 0.9))}, {1: tuple(part[1:] for part in truth[1])}, 1) is None


# what is wrong, predictions, words of the message
BAD = [
    ("unknown_image", {7: detections()}, "predictions for 1 images .* 7"),
    ("boxes_of_five_numbers", {1: (np.zeros((2, 5)), np.zeros(2), np.zeros(2))}, "image 1.*expected shapes"),
    ("too_few_scores", {1: (np.zeros((2, 4)), np.zeros(2), np.zeros(1))}, "image 1.*expected shapes"),
    ("nan_score", {1: detections((BOX, float("nan")))}, "image 1.*finite"),
    ("infinite_box", {1: detections(([0, 0, float("inf"), 1], 0.5))}, "image 1.*finite"),
    ("class_out_of_range", {1: (np.array([BOX]), np.array([20]), np.array([0.5]))}, "image 1.*class 20.*0 to 0"),
]


@pytest.mark.parametrize(("predictions", "message"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad_predictions_are_refused_with_the_image(predictions, message):
    with pytest.raises(ValueError, match=message):
        evaluate_voc(predictions, {1: objects(BOX)}, 1)


def test_ground_truth_without_objects_and_unknown_mode_are_refused():
    with pytest.raises(ValueError, match="no object"):
        evaluate_voc({}, {1: objects(BOX, difficult=[True])}, 1)
    with pytest.raises(ValueError, match="no object"):
        evaluate_voc({}, {}, 1)
    with pytest.raises(ValueError, match="11-point"):
        evaluate_voc({}, {1: objects(BOX)}, 1, mode="11")


def random_case(rng, num_images=6, num_classes=3, difficult=0.25):
    """Clusters of overlapping objects and jittered detections, so that duplicates and second choices are common."""
    predictions, truth = {}, {}
    for i in range(num_images):
        corner = rng.uniform(0, 60, (rng.integers(0, 6), 2))
        boxes = np.hstack([corner, corner + rng.uniform(20, 40, corner.shape)])
        classes = rng.integers(0, num_classes, len(boxes))
        truth[i] = (boxes, classes, rng.random(len(boxes)) < difficult)
        if len(boxes) and rng.random() < 0.9:  # some images get no detection at all
            source = rng.integers(0, len(boxes), rng.integers(1, 20))
            jitter = rng.normal(0, 4, (len(source), 4))
            guess = np.where(rng.random(len(source)) < 0.9, classes[source], rng.integers(0, num_classes, len(source)))
            predictions[i] = (boxes[source] + jitter, guess, rng.random(len(source)))
    return predictions, truth


def brute_force_ap(predictions, truth, k, threshold, mode, offset):
    """The devkit's procedure, detection by detection, recall by recall."""
    ranked = sorted(
        ((score, i, box) for i, (b, c, s) in predictions.items() for box, cls, score in zip(b, c, s) if cls == k),
        key=lambda row: -row[0],
    )
    total = sum(int(cls == k and not hard) for _, c, d in truth.values() for cls, hard in zip(c, d))
    if not total:
        return float("nan")
    used, right, counted, points = set(), 0, 0, []
    for _, i, box in ranked:
        best, best_iou = None, -1.0
        for g, (other, cls, _) in enumerate(zip(*truth[i])):
            if cls != k:
                continue
            sides = [min(box[d + 2], other[d + 2]) - max(box[d], other[d]) + offset for d in (0, 1)]
            inter = sides[0] * sides[1] if min(sides) > 0 else 0.0
            area = [max(b[2] - b[0] + offset, 0) * max(b[3] - b[1] + offset, 0) for b in (box, other)]
            if inter / (sum(area) - inter) > best_iou:
                best, best_iou = g, inter / (sum(area) - inter)
        if best_iou >= threshold:
            if truth[i][2][best]:
                continue
            right += (i, best) not in used
            used.add((i, best))
        counted += 1
        points.append((right / total, right / counted))
    if mode == "11-point":
        return sum(max([p for r, p in points if r >= t], default=0.0) for t in np.linspace(0, 1, 11)) / 11
    recalls = sorted({0.0, *(r for r, _ in points)})
    steps = itertools.pairwise(recalls)
    return sum((b - a) * max(p for r, p in points if r >= b) for a, b in steps)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    threshold=st.sampled_from([0.3, 0.5, 0.75]),
    mode=st.sampled_from(["area", "11-point"]),
    offset=st.sampled_from([0, 1]),
)
def test_ap_equals_brute_force(seed, threshold, mode, offset):
    predictions, truth = random_case(np.random.default_rng(seed))
    truth["sure"] = (np.array([BOX]), np.array([0]), np.array([False]))  # so that there is something to be found
    result = evaluate_voc(predictions, truth, 3, threshold, mode, offset)
    expected = [brute_force_ap(predictions, truth, k, threshold, mode, offset) for k in range(3)]
    np.testing.assert_allclose(result.ap, expected, atol=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.75])
@pytest.mark.parametrize("seed", range(5))
def test_101_points_equal_pycocotools(seed, threshold):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from helpers.coco import coco_dataset

    predictions, truth = random_case(np.random.default_rng(seed), num_images=40, difficult=0)
    with contextlib.redirect_stdout(io.StringIO()):
        target = COCO()
        target.dataset, results = coco_dataset(predictions, truth, 3)
        target.createIndex()
        judge = COCOeval(target, target.loadRes(results), "bbox")
        judge.params.iouThrs = np.array([threshold])
        judge.evaluate()
        judge.accumulate()
    expected = judge.eval["precision"][0, :, :, 0, -1].mean(axis=0)  # (101, K), all areas, 100 detections per image
    np.testing.assert_allclose(evaluate_voc(predictions, truth, 3, threshold, "101-point").ap, expected, atol=1e-6)


def test_modes_are_the_three_of_the_field():
    assert list(MODES) == ["area", "11-point", "101-point"]
