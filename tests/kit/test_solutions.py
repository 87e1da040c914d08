"""The reference solution: off-square, any class count, dtype and batch; against brute force and torchvision."""

import contextlib
import http.server
import math
import threading

import pytest
import torch
import torchvision

from autograder.oracle import load_solutions
from autograder.worker.models import offline_models

STRIDES = {"p3": 8, "p4": 16, "p5": 32}


@pytest.fixture(scope="module")
def solution():
    return load_solutions()


def random_boxes(generator, count, width, height):
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.7
    size = 8 + torch.rand(count, 2, generator=generator) * (torch.tensor([width, height]) - corner - 8)
    return torch.cat([corner, corner + size], dim=1)


def test_locations_are_x_then_y_and_x_changes_fastest(solution):
    coords = solution.get_fpn_location_coords({"p3": (1, 64, 2, 3)}, STRIDES)["p3"]
    # Two rows of three columns, stride 8: centres at 4, 12, 20 along x and 4, 12 along y.
    assert coords.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_half_precision_locations_are_exact_where_half_can_hold_them(solution):
    coords = solution.get_fpn_location_coords({"p3": (1, 1, 1, 300)}, {"p3": 2}, dtype=torch.bfloat16)["p3"]
    # bfloat16 counts exactly only to 256: 2 * (k + 0.5) = 2k + 1 has to be rounded once, at the end.
    assert torch.equal(coords[:, 0], (2 * torch.arange(300) + 1).to(torch.bfloat16))


def brute_force_match(locations, gt_boxes):
    """The rules of sections 3.1 and 3.2, one location and one box at a time."""
    result = {}
    for level, points in locations.items():
        low = 0 if level == "p3" else 4 * STRIDES[level]
        high = math.inf if level == "p5" else 8 * STRIDES[level]
        rows = []
        for x, y in points.tolist():
            best, best_area = [-1.0] * 5, math.inf
            for x1, y1, x2, y2, label in gt_boxes.tolist():
                sides = (x - x1, y - y1, x2 - x, y2 - y)
                area = (x2 - x1) * (y2 - y1)
                if min(sides) > 0 and low <= max(sides) <= high and area < best_area:
                    best, best_area = [x1, y1, x2, y2, label], area
            rows.append(best)
        result[level] = torch.tensor(rows)
    return result


@pytest.mark.parametrize("count", [0, 1, 9])
def test_matching_equals_brute_force_off_square(solution, count):
    generator = torch.Generator().manual_seed(count)
    locations = solution.get_fpn_location_coords({k: (1, 1, 96 // s, 160 // s) for k, s in STRIDES.items()}, STRIDES)
    labels = torch.randint(0, 20, (count, 1), generator=generator)
    boxes = torch.cat([random_boxes(generator, count, 160, 96), labels], dim=1)
    padded = torch.cat([boxes, torch.full((2, 5), -1.0)])
    expected = brute_force_match(locations, boxes)
    matched = solution.fcos_match_locations_to_gt(locations, STRIDES, padded)
    for level in STRIDES:
        torch.testing.assert_close(matched[level], expected[level])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_matching_takes_large_boxes_in_every_dtype(solution, dtype):
    locations = solution.get_fpn_location_coords({k: (1, 1, 512 // s, 640 // s) for k, s in STRIDES.items()}, STRIDES)
    boxes = torch.tensor([[10, 10, 600, 400, 3]])  # its area of 230,100 is beyond the largest float16, 65,504
    expected = solution.fcos_match_locations_to_gt(locations, STRIDES, boxes.float())["p5"][:, 4]
    assert (expected >= 0).sum() > 100
    matched = solution.fcos_match_locations_to_gt(locations, STRIDES, boxes.to(dtype))["p5"][:, 4]
    assert torch.equal(matched.float(), expected)


def test_matching_of_a_batch_equals_matching_image_by_image(solution):
    generator = torch.Generator().manual_seed(3)
    locations = solution.get_fpn_location_coords({k: (1, 1, 64 // s, 96 // s) for k, s in STRIDES.items()}, STRIDES)
    batch = torch.cat([random_boxes(generator, 12, 96, 64), torch.zeros(12, 1)], dim=1).reshape(3, 4, 5)
    together = solution.fcos_match_locations_to_gt(locations, STRIDES, batch)
    for i in range(3):
        alone = solution.fcos_match_locations_to_gt(locations, STRIDES, batch[i])
        for level in STRIDES:
            assert torch.equal(together[level][i], alone[level])


@pytest.mark.parametrize("columns", [4, 5])
def test_apply_inverts_deltas(solution, columns):
    boxes = random_boxes(torch.Generator().manual_seed(1), 50, 300, 200)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    given = torch.cat([boxes, torch.ones(50, 1)], dim=1)[:, :columns]
    deltas = solution.fcos_get_deltas_from_locations(centres, given, 16)
    torch.testing.assert_close(solution.fcos_apply_deltas_to_locations(deltas, centres, 16), boxes)


def test_centerness_is_one_at_the_centre_and_falls_to_the_side(solution):
    deltas = torch.tensor([[2.0, 2, 2, 2], [1.0, 2, 3, 2], [0.0, 1, 4, 1], [-1.0, -1, -1, -1]])
    # sqrt(1 * 1) = 1; sqrt(1/3 * 1) = 0.577; on the left side 0; background -1.
    expected = torch.tensor([1.0, math.sqrt(1 / 3), 0.0, -1.0])
    torch.testing.assert_close(solution.fcos_make_centerness_targets(deltas), expected)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_nms_equals_torchvision(solution, threshold):
    generator = torch.Generator().manual_seed(0)
    boxes, scores = random_boxes(generator, 800, 400, 300), torch.rand(800, generator=generator)
    assert torch.equal(solution.nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))


def test_class_wise_nms_equals_torchvision_with_negative_coordinates_too(solution):
    generator = torch.Generator().manual_seed(0)
    boxes, scores = random_boxes(generator, 500, 400, 300) - 150, torch.rand(500, generator=generator)
    classes = torch.randint(0, 7, (500,), generator=generator)
    expected = torchvision.ops.batched_nms(boxes, scores, classes, 0.5)
    assert torch.equal(solution.class_spec_nms(boxes, scores, classes, 0.5), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_class_wise_nms_is_as_exact_in_half_precision(solution, dtype):
    # Two boxes of 4 x 4 pixels, two pixels apart, IoU 8 / 24 = 1/3: both stay at 0.5. Moved by 19 * 601 = 11419 for the
    # last of 20 classes, float16 could tell coordinates 8 pixels apart at best, and both would be one.
    boxes = torch.tensor([[0, 0, 600, 600], [100, 100, 104, 104], [102, 100, 106, 104]], dtype=dtype)
    scores, classes = torch.tensor([0.9, 0.8, 0.7], dtype=dtype), torch.tensor([0, 19, 19])
    assert solution.class_spec_nms(boxes, scores, classes, 0.5).tolist() == [0, 1, 2]


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_nms_ends_on_zero_area_and_extreme_thresholds(solution, threshold):
    boxes = torch.tensor([[5.0, 5, 5, 5], [5.0, 5, 5, 5], [0.0, 0, 9, 9]])
    assert len(solution.nms(boxes, torch.tensor([0.5, 0.4, 0.3]), threshold)) >= 1


BACKBONES = ["regnet_x_400mf", "regnet_y_400mf", "mobilenet_v2", "resnet18", "resnet50"]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_the_pyramid(solution, name):
    model = solution.DetectorBackboneWithFPN(16, weights=None, backbone=name).eval()
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        "p3": (1, 16, 8, 12),
        "p4": (1, 16, 4, 6),
        "p5": (1, 16, 2, 3),
    }


def test_detector_trains_and_detects_in_float64_off_square_with_two_classes(solution):
    detector = solution.FCOS(2, 12, [12], weights=None, backbone="resnet18").double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    boxes = torch.tensor([[[5, 5, 60, 50, 1.0]], [[-1.0] * 5]], dtype=torch.float64)
    losses = detector(images, boxes)
    assert set(losses) == {"loss_cls", "loss_box", "loss_ctr"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in detector.pred_net.parameters())
    detector.eval()
    with torch.no_grad():
        found, classes, scores = detector(images[:1], test_score_thresh=0.0, test_nms_thresh=0.9)
    assert found.dtype == scores.dtype == torch.float64
    assert len(found) == len(classes) == len(scores) > 0
    assert (found >= 0).all()
    assert (found[:, [0, 2]] <= 96).all()
    assert (found[:, [1, 3]] <= 64).all()


def test_bare_call_in_eval_mode_uses_the_default_thresholds(solution):
    detector = solution.FCOS(2, 12, [12], weights=None, backbone="resnet18").eval()
    with torch.no_grad():
        boxes, classes, scores = detector(torch.randn(1, 3, 64, 64))
    assert boxes.shape == (len(scores), 4)
    assert classes.dtype == torch.int64


def test_inference_refuses_a_batch_with_a_clear_message(solution):
    detector = solution.FCOS(2, 12, [12], weights=None, backbone="resnet18").eval()
    with pytest.raises(ValueError, match="one image at a time, got a batch of 3"):
        detector(torch.randn(3, 3, 64, 64))


def test_unknown_backbone_lists_those_that_exist(solution):
    with pytest.raises(ValueError, match="unknown backbone 'vgg'; choose one of regnet_x_400mf"):
        solution.load_backbone("vgg")


def test_missing_weights_file_is_named(solution, tmp_path):
    with pytest.raises(FileNotFoundError, match="no backbone weights at"):
        solution.load_backbone("resnet18", tmp_path / "none.pth")


def test_weights_from_a_path_are_used(solution, tmp_path):
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    loaded = solution.load_backbone("resnet18", tmp_path / "w.pth")
    assert torch.equal(loaded.conv1.weight, network.conv1.weight)


@contextlib.contextmanager
def file_server(folder):
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def serve_weights_from(base, monkeypatch, tmp_path):
    """Let torchvision fetch resnet18's weights from `base`, through its real download path."""
    from torchvision.models import _api

    real = _api.load_state_dict_from_url
    monkeypatch.setattr(
        _api, "load_state_dict_from_url", lambda url, **_: real(f"{base}/w.pth", model_dir=str(tmp_path / "hub"))
    )


def test_default_weights_are_downloaded(solution, tmp_path, monkeypatch):
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with file_server(tmp_path) as base:
        serve_weights_from(base, monkeypatch, tmp_path)
        loaded = solution.load_backbone("resnet18")
    assert torch.equal(loaded.conv1.weight, network.conv1.weight)


def test_unreachable_network_names_the_remedies(solution, tmp_path, monkeypatch):
    serve_weights_from("http://127.0.0.1:9", monkeypatch, tmp_path)  # nobody listens on the discard port
    with pytest.raises(RuntimeError, match=r"could not be downloaded.*weights='/path/to/file.pth'.*weights=None"):
        solution.load_backbone("resnet18")


def test_offline_models_leave_no_trace():
    before = torchvision.models.resnet18
    with offline_models():
        assert torchvision.models.resnet18 is not before
        torchvision.models.resnet18(pretrained=True)
        torchvision.models.get_model("resnet18", weights="DEFAULT")
    assert torchvision.models.resnet18 is before
