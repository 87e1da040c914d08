"""The mAP of a trained detector: measured in the worker, scored outside, worth points when the table says so."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from required import require_level
from torch.utils.data import Subset

from autograder import measure as measuring
from autograder.errors import KitError
from autograder.grade import grade, refused_results
from autograder.grader_process import answer
from autograder.held_out import HeldOut, described, load_held_out
from autograder.isolation import exposed_at
from autograder.measure import Measurement
from autograder.tasks import FILES, ROOT, load_tasks
from helpers.dataset import VOC2007DetectionTiny
from helpers.inference import detect
from helpers.sample import make_sample
from tools.cli import main
from tools.hostile import Marks, weights_file

IMAGES = 6
ON = load_tasks(given={"5.1": False})
# 15 points on top of 100 are scaled to 100: 15 * 100 / 115 = 13.04, and 13 in three equal parts is 5, 4, 4.
POINTS = {0.0: 0, 0.2199: 0, 0.22: 5, 0.2999: 5, 0.30: 9, 0.3799: 9, 0.38: 13, 1.0: 13}

# A detector that knows the images by their sums and sizes, and answers from its weights.
REMEMBERS = """
class FCOS(nn.Module):
    def __init__(self, num_classes, fpn_channels, stem_channels):
        super().__init__()
        self.answers = nn.ParameterDict()

    def load_state_dict(self, state):
        self.known = state

    def forward(self, images, gt_boxes=None, test_score_thresh=None, test_nms_thresh=None):
        assert not self.training and test_score_thresh == 0.05 and test_nms_thresh == 0.5
        n = int((self.known["sums"] - images.sum()).abs().argmin())
        assert abs(self.known["sums"][n] - images.sum()) < 1
        assert list(images.shape[2:]) == self.known["sizes"][n].tolist()
        rows = self.known[f"rows{n}"]
        return rows[:, :4], rows[:, 4], torch.linspace(1, 0.1, len(rows))
"""
# One whose only parameter is of shape (3,), and that answers with some code.
ANSWERS = """
class FCOS(nn.Module):
    def __init__(self, num_classes, fpn_channels, stem_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, images, gt_boxes=None, test_score_thresh=None, test_nms_thresh=None):
        import os, sys, time
        boxes, classes, scores = torch.rand(5, 4), torch.zeros(5), torch.linspace(1, 0.1, 5)
        {code}
"""
FORGE = 'sys.modules["fcos_worker.detector"]._surest = lambda outputs, most: {}\n        return boxes, classes, scores'
# What a detector returns, or does -> what is said of it.
FORMS = {
    "shapes": ("return boxes.T, classes, scores", "the detections have the wrong shapes"),
    "lengths": ("return boxes, classes[:4], scores", "have different lengths"),
    "two things": ("return boxes, classes", "inference does not return boxes, classes and scores"),
    "nothing": ("return None", "TypeError"),
    "a text": ('return "abc"', "wrong type of boxes (str)"),
    "lists": ("return boxes.tolist(), classes.tolist(), scores.tolist()", "wrong type of boxes (list)"),
    "a score that is no number": ("return boxes, classes, scores * torch.nan", "scores of detections are not finite"),
    "boxes without end": ("return boxes / 0, classes, scores", "boxes of detections are not finite"),
    "class 99": ("return boxes, classes + 99, scores", "classes of detections are not whole numbers from 0 to 19"),
    "class -1": ("return boxes, classes - 1, scores", "classes of detections are not whole numbers from 0 to 19"),
    "half a class": ("return boxes, classes + 0.5, scores", "classes of detections are not whole numbers from 0 to 19"),
    "complex boxes": ("return boxes.to(torch.complex64), classes, scores", "something that cannot be graded"),
    "exit": ("os._exit(0)", "ended the program without an answer"),
    "an error with a text of its own": ("raise ValueError(str(images.flatten()[:50].tolist()))", "ValueError"),
    "not begun": ("raise NotImplementedError", "not implemented yet"),
    "too slow": ("time.sleep(60)", "stopped after 3 s"),
    "a worker that keeps too many": (FORGE.format("[torch.rand(301, 4), torch.zeros(301), torch.rand(301)]"),
                                     "more than 300 detections came"),
    "a worker that forges": (FORGE.format('{"a": torch.rand(2)}'), "inference does not return boxes"),
    "a million boxes": ("return torch.rand(10**6, 4), torch.zeros(10**6), torch.rand(10**6)", "mAP is 0.00%"),
    "boxes turned over": ("return -boxes, classes, scores", "mAP is 0.00%"),
    "boxes beyond measure": ("return boxes * 1e38, classes, scores", "mAP is 0.00%"),
    "scores beyond measure": ("return boxes, classes, scores * 1e38", "do not lie between 0 and 1"),
    "whole numbers": ("return (9 * boxes).long(), classes.long(), scores.round().long()", "mAP is 0.00%"),
}  # fmt: skip
# State dict of a detector with `weight` of shape (3,) -> what is said of it.
MISFITS = {
    "no file": (None, "fcos_detector.pt is missing"),
    "missing": ({"other": torch.zeros(3)}, "does not fit the parameters of FCOS(num_classes=20, fpn_channels=64, "
                                           "stem_channels=[64, 64]): some are missing"),
    "others": ({"weight": torch.zeros(3), "other": torch.zeros(3)}, "it holds others"),
    "shapes": ({"weight": torch.zeros(4)}, "their shapes differ"),
    "no state dict": ({"weight": 3}, "it holds more than tensors by name"),
}  # fmt: skip


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return HeldOut(str(make_sample(tmp_path_factory.mktemp("voc"), train=1, val=IMAGES)), images=IMAGES)


@pytest.fixture
def submission(tmp_path):
    """Function (code at the end of one_stage_detector.py, state dict) -> folder."""

    def write(code="", state=None):
        folder = tmp_path / "submission"
        folder.mkdir()
        for name in FILES:
            shutil.copy(ROOT / "solutions" / name, folder / name)
        with (folder / "one_stage_detector.py").open("a") as file:
            file.write(code)
        if state is not None:
            torch.save(state, folder / "fcos_detector.pt")
        return folder

    return write


def remembered(held_out, keep=lambda kind: True) -> dict:
    """Weights for REMEMBERS, made with the data set that students use; `keep` says which classes it has learned."""
    dataset = VOC2007DetectionTiny(held_out.root, held_out.split)
    state = {"sums": torch.zeros(len(dataset)), "sizes": torch.zeros(len(dataset), 2)}
    for n in range(len(dataset)):
        image, (boxes, classes, _) = dataset[n][1], dataset.ground_truth(n)
        kept = torch.tensor([keep(int(kind)) for kind in classes])
        state["sums"][n], state["sizes"][n] = image.sum(), torch.tensor(image.shape[1:])
        state[f"rows{n}"] = torch.cat([boxes, classes[:, None].float()], dim=1)[kept]
    return state


def measured(folder, held_out, worker, table=ON):
    results = grade(folder, table, {"5.1"}, worker=worker, held_out=held_out)
    (row,) = results["tasks"]
    return results, row


def test_detector_that_finds_everything_gets_everything(submission, held_out, worker):
    results, row = measured(submission(REMEMBERS, remembered(held_out)), held_out, worker)
    assert (row["points"], row["max_points"], row["status"]) == (13, 13, "passed")
    assert results["measures"] == {"mAP": 1.0}
    assert results["held_out"] == {"split": "val", "images": IMAGES, "sha256": load_held_out(held_out).digest}
    assert len(results["pictures"]) == 4
    images = load_held_out(held_out)
    for n in images.shown:  # found boxes come back in pixels of the file, as the truth is
        found, truth = results["pictures"][images.id(n)], images.picture(n)["truth"]
        assert 0 < len(found) <= len(truth)
        for *box, name, score in found:
            assert score > 0.3
            assert any(name == other[4] and max(abs(a - b) for a, b in zip(box, other)) < 1 for other in truth)


def test_detections_up_to_the_threshold_count_for_nobody(submission, held_out, worker):
    code = REMEMBERS.replace("torch.linspace(1, 0.1, len(rows))", "torch.full((len(rows),), 0.04)")
    results, _ = measured(submission(code, remembered(held_out)), held_out, worker)
    assert results["measures"] == {"mAP": 0.0}


def test_truth_ends_where_its_image_ends_as_detections_do(held_out, tmp_path):
    shutil.copytree(held_out.root, tmp_path / "voc")
    for path in (tmp_path / "voc").rglob("*.xml"):
        path.write_text(re.sub(r"<xmax>\d+", "<xmax>5000", path.read_text()))
    images = load_held_out(HeldOut(str(tmp_path / "voc"), images=IMAGES))
    for n, (boxes, _, _) in images.truth.items():
        images.check(n)
        assert (boxes[:, 2] == images.picture(n)["width"]).all()


def test_half_of_the_classes_are_half_of_the_mean(submission, held_out, worker):
    dataset = VOC2007DetectionTiny(held_out.root, "val")
    truth = [dataset.ground_truth(n) for n in range(len(dataset))]
    there = sorted({int(k) for _, classes, difficult in truth for k in classes[~difficult]})
    state = remembered(held_out, keep=lambda kind: kind in there[::2])
    results, _ = measured(submission(REMEMBERS, state), held_out, worker)
    assert results["measures"]["mAP"] == pytest.approx(len(there[::2]) / len(there), abs=1e-4)


@pytest.mark.parametrize(("mean_ap", "points"), POINTS.items())
def test_points_follow_the_thresholds_of_the_table(mean_ap, points, submission, held_out, worker, monkeypatch):
    monkeypatch.setattr(measuring, "measure", lambda *_: Measurement(mean_ap, IMAGES))
    _, row = measured(submission(), held_out, worker)
    assert row["points"] == points
    lowest = next((part for part in (22, 30, 38) if 100 * mean_ap < part), None)
    expected = "" if lowest is None else f"mAP of {lowest} % or more: mAP is {mean_ap:.2%}, {lowest} % are asked for"
    assert row["message"] == expected


@pytest.mark.parametrize("form", FORMS)
def test_answer_of_another_form_costs_the_task_alone(form, submission, held_out, worker):
    code, said = FORMS[form]
    table = replace(ON, tasks=tuple(replace(task, seconds=3) if task.id == "5.1" else task for task in ON.tasks))
    folder = submission(ANSWERS.format(code=code), {"weight": torch.zeros(3)})
    results = grade(folder, table, {"1.2", "5.1"}, worker=worker, held_out=held_out)
    points = {row["id"]: row["points"] for row in results["tasks"]}
    assert points == {"1.2": table["1.2"].points, "5.1": 0}
    message = results["tasks"][1]["message"]
    assert said in message
    assert "0." not in message.replace("mAP is 0.00%", "")  # no pixel and no coordinate


@pytest.mark.parametrize("name", MISFITS)
def test_weights_that_do_not_fit_are_said_to(name, submission, held_out, worker):
    state, said = MISFITS[name]
    _, row = measured(submission(ANSWERS.format(code="return boxes, classes, scores"), state), held_out, worker)
    assert row["points"] == 0
    assert said in row["message"]


def test_weights_that_run_code_are_not_opened(submission, held_out, worker):
    folder, marks = submission(ANSWERS.format(code="return boxes, classes, scores")), Marks.fresh()
    weights_file("pickle", folder / "fcos_detector.pt", marks)
    _, row = measured(folder, held_out, worker)
    assert "is not a state dict saved with torch.save" in row["message"]
    assert not marks.remove_trace()


def test_real_detector_is_measured_with_the_task_switched_off(submission, held_out, worker, monkeypatch):
    """The solutions with random weights: no points depend on it, and the kit's own table is in force."""
    folder = submission()
    monkeypatch.syspath_prepend(folder)
    for name in ("common", "one_stage_detector"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from one_stage_detector import FCOS

    torch.manual_seed(0)
    detector = FCOS(20, 64, [64, 64], weights=None)
    torch.nn.init.ones_(detector.pred_net.pred_box.bias)  # or half of the boxes have no area, and are left out
    torch.save(detector.state_dict(), folder / "fcos_detector.pt")
    for name in ("common", "one_stage_detector"):
        monkeypatch.delitem(sys.modules, name)
    few = HeldOut(held_out.root, "val", 2)
    monkeypatch.setattr(measuring, "SHOWN_SCORE", 0.0)
    results = grade(folder, tasks={"1.2"}, worker=worker, held_out=few)
    assert [row["id"] for row in results["tasks"]] == ["1.2"]
    assert results["total"] == results["max_total"] == 6
    assert 0 <= results["measures"]["mAP"] < 0.22
    assert results["held_out"]["images"] == 2
    assert results["notes"] == []
    # What was found is what students find with the same weights, here in pixels of the file, to a tenth.
    dataset = VOC2007DetectionTiny(held_out.root, "val")
    images = load_held_out(few)
    for n in range(2):
        index = next(i for i in range(len(dataset)) if dataset.image_id(i) == images.id(n))
        ((boxes, classes, scores),) = detect(detector, Subset(dataset, [index]), progress=False).values()
        boxes = torch.from_numpy(images.in_file(n, boxes.double().numpy()))
        found = results["pictures"][images.id(n)]
        assert len(found) == 10
        for *box, name, score in found:
            near = ((boxes - torch.tensor(box)).abs() < 0.1).all(dim=1) & ((scores - score).abs() < 0.01)
            assert name in {dataset.idx_to_class[int(kind)] for kind in classes[near]}


def test_what_cannot_be_measured_is_a_note_where_no_task_asks_for_it(submission, held_out, worker):
    results = grade(submission(), tasks={"1.2"}, worker=worker, held_out=held_out)
    assert results["total"] == 6
    assert results["measures"] == results["pictures"] == {}
    assert "mAP could not be measured: fcos_detector.pt is missing" in " ".join(results["notes"])


def test_note_about_weights_that_do_not_fit_says_why(submission, held_out, worker):
    results = grade(submission(state={"weight": torch.zeros(1)}), tasks={"1.2"}, worker=worker, held_out=held_out)
    assert re.search(r"does not fit the parameters of FCOS\(.*\): some are missing$", " ".join(results["notes"]))


def test_switched_on_task_without_images_is_refused_and_students_need_none(submission, worker):
    with pytest.raises(KitError, match=r"task 5.1 measures trained detectors on held-out images: add --weights"):
        grade(submission(), ON, worker=worker)
    assert grade(ROOT / "solutions", ON, {"1.2"}, worker=worker)["total"] == ON["1.2"].points
    results = grade(ROOT / "solutions", ON, {"5.1"}, public_only=True, worker=worker)
    assert results["tasks"][0]["status"] == "not graded"


def test_time_and_budget_end_the_measurement_alone(submission, held_out, worker, monkeypatch):
    folder = submission(ANSWERS.format(code="return boxes, classes, scores"), {"weight": torch.zeros(3)})
    results = grade(folder, ON, {"5.1"}, worker=worker, held_out=held_out, seconds=0.001)
    assert "time is over" in results["tasks"][0]["message"]
    monkeypatch.setattr(measuring, "MOST_SECONDS", 0.0)
    _, row = measured(folder, held_out, worker)
    assert row["message"].endswith("the submission has used its 0 s")


def test_images_are_spread_over_the_list_and_known_by_their_content(held_out, tmp_path):
    two = load_held_out(HeldOut(held_out.root, "val", 2))
    all_of_them = load_held_out(held_out)
    assert [two.id(n) for n in range(2)] == [all_of_them.id(n) for n in (0, IMAGES // 2)]
    assert len(load_held_out(HeldOut(held_out.root, "val", 10**6))) == IMAGES
    shutil.copytree(held_out.root, tmp_path / "copy")
    copy = HeldOut(str(tmp_path / "copy"), images=IMAGES)
    assert described(copy) == described(held_out)
    name = f"{all_of_them.id(0)}.xml"
    path = tmp_path / "copy" / "VOCdevkit" / "VOC2007" / "Annotations" / name
    path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<", 1))
    load_held_out.cache_clear()
    assert described(copy) != described(held_out)


def cut(image):
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])


def turn(image):
    with Image.open(image) as picture:
        picture.transpose(Image.Transpose.ROTATE_90).save(image)


# What is done to the images -> what is said.
WRONG_DATA = {
    "nowhere": (lambda root: shutil.rmtree(root), "no list of the 'val' images"),
    "broken": (lambda root: next(root.rglob("*.xml")).write_text("<"), "is not an annotation as VOC writes them"),
    "all difficult": (
        lambda root: [path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
                      for path in root.rglob("*.xml")],
        "no object to be found",
    ),
    "damaged image": (lambda root: [cut(path) for path in root.rglob("*.jpg")], "image file is truncated"),
    "turned image": (lambda root: [turn(path) for path in root.rglob("*.jpg")], "its annotation gives it the form of"),
    "box outside": (
        lambda root: [path.write_text(path.read_text().replace("<xmin>", "<xmin>9999"))
                      for path in root.rglob("*.xml")], "without area inside it, which nobody could find",
    ),
    "long": (lambda root: [path.write_text(path.read_text().replace("<width>", "<width>99"))
                           for path in root.rglob("*.xml")], "more than 10 times as long as wide"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_DATA)
def test_images_that_cannot_be_used_are_refused_before_anything_is_graded(name, held_out, tmp_path, capsys):
    spoil, said = WRONG_DATA[name]
    root = tmp_path / "voc"
    shutil.copytree(held_out.root, root)
    spoil(root / "VOCdevkit" / "VOC2007")
    load_held_out.cache_clear()
    assert main(["grade", str(ROOT / "solutions"), "--weights", "--held-out", str(root)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


BAD_OPTIONS = [
    (["--held-out", "x"], "add --weights"),
    (["--images", "3"], "add --weights"),
    (["--weights", "--images", "0"], "--images 0: at least 1"),
    (["--weights", "--held-out", "nowhere"], "no list of the 'val' images"),
    (["--weights", "--held-out", "{voc}", "--split", "test"], "no list of the 'test' images"),
]


@pytest.mark.parametrize("command", ["grade", "grade-class"])
@pytest.mark.parametrize(("options", "said"), BAD_OPTIONS)
def test_options_that_make_no_sense_are_one_line_and_exit_code_2(command, options, said, held_out, capsys):
    options = [text.format(voc=held_out.root) for text in options]
    assert main([command, str(ROOT / "solutions"), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_grader_process_is_told_the_images_in_plain_values(submission, held_out):
    job = {"paths": [str(submission())], "tasks": ["1.2"], "public_only": True, "isolation": "process"}
    answered = answer(json.loads(json.dumps(job | {"held_out": vars(held_out)})))
    assert answered["results"]["held_out"] == described(held_out)
    refused = answer(job | {"paths": [str(ROOT / "docs")], "held_out": vars(held_out)})
    assert refused["results"]["held_out"] == described(held_out)
    assert "held_out" not in refused_results("why")


def test_labels_are_not_within_reach(submission, held_out):
    """At level `process` they are, and a warning says so."""
    require_level("bubblewrap")
    code = f"assert not os.path.exists({held_out.root!r}); return boxes, classes, scores"
    folder = submission(ANSWERS.format(code=code), {"weight": torch.zeros(3)})
    results = grade(folder, ON, {"5.1"}, isolation="bubblewrap", held_out=held_out)
    assert results["tasks"][0]["message"].startswith("mAP of 22 % or more: mAP is 0.00%")
    assert results["isolation_warning"] == ""
    results = grade(folder, ON, {"5.1"}, isolation="process", held_out=held_out)
    assert results["tasks"][0]["message"].startswith("mAP of 22 % or more: AssertionError")
    assert "can read the held-out images" in results["isolation_warning"]


def test_place_of_the_images_decides_whether_they_are_exposed(tmp_path):
    assert exposed_at("uid", Path("/usr"))
    assert exposed_at("bubblewrap", Path("/usr/lib/x"))
    assert not exposed_at("bubblewrap", tmp_path)
    tmp_path.chmod(0o750)
    assert not exposed_at("uid", tmp_path)
