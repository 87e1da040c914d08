"""The data set: every number of an item can be derived by hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from helpers import VOC2007DetectionTiny, collate, make_sample
from helpers.annotations import VOC_CLASSES, AnnotationError, read_split
from helpers.cache import resized_shape
from helpers.dataset import clip_boxes, normalize
from helpers.inference import ground_truth_of, in_file_pixels

CAR, DOG, PERSON = (VOC_CLASSES.index(name) for name in ("car", "dog", "person"))

# Annotated as VOC does it: counted from 1, both corners inside. One landscape image, 200 x 100.
WHOLE = ("car", (1, 1, 200, 100), 0)  # (0, 0, 200, 100) on the image plane
LEFT = ("dog", (1, 1, 20, 100), 0)  # left of the centre square, which begins at x = 50
HALF = ("person", (41, 11, 60, 30), 0)  # (40, 10, 60, 30); the centre square keeps x from 50 on
HARD = ("car", (101, 51, 120, 70), 1)  # (100, 50, 120, 70), difficult


def write_voc(root: Path, images: dict[str, tuple[tuple[int, int], list]], split: str) -> Path:
    """Write a tiny VOCdevkit: image id -> (size, objects)."""
    voc = root / "VOCdevkit" / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (voc / folder).mkdir(parents=True, exist_ok=True)
    for name, ((width, height), objects) in images.items():
        column = np.arange(width, dtype=np.uint8)
        Image.fromarray(np.broadcast_to(column[None, :, None], (height, width, 3)).copy()).save(
            voc / "JPEGImages" / f"{name}.jpg", quality=100
        )
        xml = "".join(
            f"<object><name>{n}</name><difficult>{d}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
            f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
            for n, b, d in objects
        )
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (voc / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{xml}</annotation>")
    (voc / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
    return root


@pytest.fixture
def landscape(tmp_path) -> Path:
    images = {"000001": ((200, 100), [WHOLE, LEFT, HALF, HARD])}
    write_voc(tmp_path, images, "train")
    return write_voc(tmp_path, images, "val")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample"), train=24, val=12)


def test_training_item_is_the_centre_square_with_clipped_boxes(landscape):
    path, image, gt_boxes = VOC2007DetectionTiny(landscape, "train", image_size=50)[0]
    assert path == str(landscape / "VOCdevkit/VOC2007/JPEGImages/000001.jpg")
    assert image.shape == (3, 50, 50)
    assert image.dtype == gt_boxes.dtype == torch.float32
    # Half size: 100 x 50, and the square begins at x = 25. The dog (x up to 10) is gone, the hard car is no target;
    # the person reached from 20 to 30 and keeps 25 to 30. M = 3, the most targets of any image before cropping.
    expected = [[0, 0, 50, 50, CAR], [0, 5, 5, 15, PERSON], [-1, -1, -1, -1, -1]]
    torch.testing.assert_close(gt_boxes, torch.tensor(expected, dtype=torch.float32))


def test_validation_item_is_the_whole_image_padded_to_multiples_of_32(landscape):
    dataset = VOC2007DetectionTiny(landscape, "val", image_size=50)
    _, image, gt_boxes = dataset[0]
    # 100 x 50 after resizing; the next multiples of 32 are 128 and 64.
    assert image.shape == (3, 64, 128)
    assert (image[:, 50:] == 0).all()
    assert (image[:, :, 100:] == 0).all()
    assert (image[:, :50, :100] != 0).any()
    assert dataset.content_size(0) == (50, 100)
    expected = [[0, 0, 100, 50, CAR], [0, 0, 10, 50, DOG], [20, 5, 30, 15, PERSON]]
    torch.testing.assert_close(gt_boxes, torch.tensor(expected, dtype=torch.float32))


def test_image_is_normalised_as_imagenet_backbones_expect(landscape):
    _, image, _ = VOC2007DetectionTiny(landscape, "train", image_size=50)[0]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    # The image is a ramp whose value is its column, 0 to 199. At half size pixel k averages columns 2k and 2k + 1 and
    # their neighbours, which leaves 2k + 0.5; the square begins at k = 25.
    ramp = 2 * (25 + np.arange(50)) + 0.5
    expected = (ramp / 255 - mean[:, None]) / std[:, None]  # (3, 50)
    # JPEG and rounding to bytes cost up to two steps of 255, and a step is 1 / (255 * 0.22) = 0.018.
    np.testing.assert_allclose(image[:, 20].numpy(), expected, atol=0.04)


def test_ground_truth_keeps_difficult_objects_apart(landscape):
    boxes, classes, difficult = VOC2007DetectionTiny(landscape, "val", image_size=50).ground_truth(0)
    assert boxes[difficult].tolist() == [[50.0, 25.0, 60.0, 35.0]]
    assert classes.tolist() == [CAR, DOG, PERSON, CAR]
    assert difficult.tolist() == [False, False, False, True]


def test_summary_counts_what_the_crop_takes_away(landscape):
    crop, whole = VOC2007DetectionTiny(landscape, "train", image_size=50), VOC2007DetectionTiny(landscape, "val")
    expected = {"images": 1, "objects": 3, "difficult": 1, "lost_objects": 1, "lost_difficult": 0}
    assert {k: v for k, v in crop.summary().items() if k in expected} == expected
    assert {k: v for k, v in whole.summary().items() if k in expected} == {**expected, "lost_objects": 0}


def test_summary_of_a_part_counts_that_part(sample):
    whole = VOC2007DetectionTiny(sample, image_size=64)
    first, rest = whole.summary(range(5)), whole.summary(range(5, 24))
    assert (first["images"], rest["images"]) == (5, 19)
    for name in ("objects", "difficult", "lost_objects", "lost_difficult"):
        assert first[name] + rest[name] == whole.summary()[name]


OUTSIDE, TURNED = ("dog", (201, 10, 230, 30), 0), ("dog", (60, 10, 40, 30), 0)


@pytest.mark.parametrize("split", ["train", "val"])
def test_box_without_area_in_its_image_is_not_left_out_in_silence(tmp_path, split):
    images = {"000001": ((200, 100), [WHOLE]), "000002": ((200, 100), [WHOLE, OUTSIDE, TURNED])}
    write_voc(tmp_path, images, split)
    with pytest.warns(UserWarning, match=f"2 boxes of the '{split}' images have no area .* first in 000002"):
        dataset = VOC2007DetectionTiny(tmp_path, split)
    assert len(dataset.ground_truth(1)[0]) == 1


def test_image_without_pixels_is_refused_by_name(tmp_path):
    write_voc(tmp_path, {"000001": ((200, 100), [WHOLE])}, "train")
    xml = tmp_path / "VOCdevkit/VOC2007/Annotations/000001.xml"
    xml.write_text(xml.read_text().replace("<width>200", "<width>0"))
    with pytest.raises(AnnotationError, match=r"000001\.xml .* 0 x 100 pixels"):
        VOC2007DetectionTiny(tmp_path)


def test_boxes_in_file_pixels_do_not_depend_on_the_image_size(landscape):
    for size in (32, 50):
        dataset = VOC2007DetectionTiny(landscape, "val", image_size=size)
        truth = in_file_pixels(dataset, ground_truth_of(dataset))
        np.testing.assert_allclose(truth[0][0][1], [0, 0, 20, 100], atol=1e-4)
        for part in (Subset(dataset, [0]), Subset(Subset(dataset, [0]), [0])):
            assert in_file_pixels(part, {0: truth[0]})[0][0][1, 3] == pytest.approx(100 * 100 / size)
    assert in_file_pixels([1], truth) == truth


def test_whole_images_of_a_training_split_and_crops_of_a_validation_split_can_be_asked_for(landscape):
    assert VOC2007DetectionTiny(landscape, "train", image_size=50, crop=False)[0][1].shape == (3, 64, 128)
    assert VOC2007DetectionTiny(landscape, "val", image_size=50, crop=True)[0][1].shape == (3, 50, 50)


def test_classes_are_in_alphabetical_order():
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)
    assert len(VOC_CLASSES) == 20


def test_class_tables_are_inverse_to_each_other(landscape):
    dataset = VOC2007DetectionTiny(landscape)
    assert dataset.class_to_idx["aeroplane"] == 0
    assert dataset.class_to_idx["tvmonitor"] == 19
    assert {i: n for n, i in dataset.class_to_idx.items()} == dataset.idx_to_class


@pytest.mark.parametrize("count", [0, 1, 60])
def test_any_number_of_objects_is_padded_with_minus_one(tmp_path, count):
    images = {"000001": ((64, 64), [WHOLE_64] * count), "000002": ((64, 64), [WHOLE_64])}
    dataset = VOC2007DetectionTiny(write_voc(tmp_path, images, "train"), image_size=64)
    gt_boxes = dataset[0][2]
    assert gt_boxes.shape == (max(1, count), 5)
    assert (gt_boxes[:count, 4] == DOG).all()
    assert (gt_boxes[count:] == -1).all()


WHOLE_64 = ("dog", (1, 1, 64, 64), 0)


def test_default_collate_works_on_a_training_split(sample):
    paths, images, gt_boxes = next(iter(DataLoader(VOC2007DetectionTiny(sample, "train", image_size=64), batch_size=4)))
    assert len(paths) == 4
    assert images.shape == (4, 3, 64, 64)
    assert gt_boxes.shape[::2] == (4, 5)


def test_collate_pads_unequal_sizes_and_counts():
    small = ("a", torch.ones(3, 32, 64), torch.zeros(1, 5))
    tall = ("b", torch.ones(3, 96, 32), torch.zeros(3, 5))
    paths, images, gt_boxes = collate([small, tall])
    assert paths == ["a", "b"]
    assert images.shape == (2, 3, 96, 64)
    assert images.sum(dim=(1, 2, 3)).tolist() == [3 * 32 * 64, 3 * 96 * 32]
    assert (images[0, :, 32:] == 0).all()
    assert (images[1, :, :, 32:] == 0).all()
    assert (gt_boxes == -1).sum(dim=(1, 2)).tolist() == [2 * 5, 0]


def test_validation_batches_have_sides_that_32_divides(sample):
    dataset = VOC2007DetectionTiny(sample, "val", image_size=64)
    for _, images, _ in DataLoader(dataset, batch_size=5, collate_fn=collate):
        assert images.shape[2] % 32 == 0
        assert images.shape[3] % 32 == 0


# (height and width, box, expected, kept with min_side = 1)
CLIPS = [
    ((10, 20), [2, 3, 8, 9], [2, 3, 8, 9], True),
    ((10, 20), [-5, -5, 25, 15], [0, 0, 20, 10], True),
    ((10, 20), [20, 2, 30, 8], [20, 2, 20, 8], False),  # begins where the image ends
    ((10, 20), [19.5, 2, 30, 8], [19.5, 2, 20, 8], False),  # half a pixel is left
    ((10, 20), [3, 5, 3, 8], [3, 5, 3, 8], False),  # no area to begin with
]


@pytest.mark.parametrize(("size", "box", "expected", "kept"), CLIPS)
def test_clip_boxes_keeps_what_has_an_area(size, box, expected, kept):
    boxes, mask = clip_boxes(torch.tensor([box], dtype=torch.float32), size, min_side=1.0)
    assert boxes.tolist() == [expected]
    assert mask.tolist() == [kept]


def test_normalize_pads_only_when_it_must():
    image = torch.zeros(3, 64, 40, dtype=torch.uint8)
    assert normalize(image).shape == (3, 64, 40)
    assert normalize(image, 32).shape == (3, 64, 64)
    assert normalize(image[:, :, :32], 32).shape == (3, 64, 32)


@pytest.mark.parametrize(
    ("size", "expected"), [((500, 375), (224, 299)), ((375, 500), (299, 224)), ((300, 300), (224, 224))]
)
def test_resized_shape_keeps_the_aspect(size, expected):
    # 500 * 224 / 375 = 298.67
    assert resized_shape(*size, 224) == expected


# --- the course's JSON lists ----------------------------------------------------------------------


def write_course_list(root: Path, split: str) -> None:
    """Write the list that the course has for `landscape`: no difficult object, "./here" for the folder."""
    objects = [{"name": name, "xyxy": [float(v) for v in box]} for name, box, hard in (WHOLE, LEFT, HALF) if not hard]
    entries = [["./here/VOCdevkit/VOC2007/JPEGImages/000001.jpg", objects]]
    (root / f"voc07_{split}.json").write_text(json.dumps(entries))


@pytest.mark.parametrize("split", ["train", "val"])
def test_course_list_and_xml_give_the_same_items(landscape, split):
    from_xml = VOC2007DetectionTiny(landscape, split, image_size=50)
    write_course_list(landscape, split)
    (landscape / f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt").unlink()
    from_list = VOC2007DetectionTiny(landscape, split, image_size=50)
    for one, other in zip(from_xml[0][1:], from_list[0][1:]):
        assert torch.equal(one, other)
    for one, other in zip(from_xml.ground_truth(0), from_list.ground_truth(0)):
        assert torch.equal(one, other)
    assert from_xml.summary() == from_list.summary()


def test_course_list_without_xml_has_no_difficult_objects(landscape):
    write_course_list(landscape, "val")
    (landscape / "VOCdevkit/VOC2007/Annotations/000001.xml").unlink()
    annotation = read_split(landscape, "val")[0]
    assert (annotation.width, annotation.height) == (200, 100)
    assert annotation.difficult.tolist() == [False, False, False]


# --- damaged data ---------------------------------------------------------------------------------

BAD_XML = {
    "not xml": ("<annotation>", "000001.xml"),
    "unknown class": (
        "<annotation><size><width>9</width><height>9</height></size><object><name>unicorn</name><bndbox><xmin>1</xmin>"
        "<ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>",
        "unicorn",
    ),
    "no size": ("<annotation></annotation>", "000001.xml"),
    "box is no number": (
        "<annotation><size><width>9</width><height>9</height></size><object><name>dog</name><bndbox><xmin>nan</xmin>"
        "<ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>",
        "not a number",
    ),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_bad_annotation_is_an_error_that_names_the_file(landscape, case):
    text, named = BAD_XML[case]
    (landscape / "VOCdevkit/VOC2007/Annotations/000001.xml").write_text(text)
    with pytest.raises(AnnotationError, match=r"000001\.xml") as error:
        VOC2007DetectionTiny(landscape)
    assert named in str(error.value)


def test_missing_image_is_an_error_at_once(landscape):
    (landscape / "VOCdevkit/VOC2007/JPEGImages/000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 1 files .* first 000001\.jpg"):
        VOC2007DetectionTiny(landscape)


def test_missing_list_names_the_remedies(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"VOCdevkit/.*download=True.*make_sample"):
        VOC2007DetectionTiny(tmp_path, "train")


def test_damaged_image_is_named(landscape):
    (landscape / "VOCdevkit/VOC2007/JPEGImages/000001.jpg").write_bytes(b"<html>not found</html>")
    with pytest.raises(OSError, match=r"000001\.jpg"):
        VOC2007DetectionTiny(landscape)[0]


def test_empty_list_and_bad_course_list_are_errors(landscape):
    (landscape / "voc07_val.json").write_text('{"images": []}')
    with pytest.raises(AnnotationError, match="empty"):
        read_split(landscape, "val")
    (landscape / "voc07_val.json").write_text("[[1, 2, 3]]")
    with pytest.raises(AnnotationError, match=r"voc07_val\.json"):
        read_split(landscape, "val")


BAD_OPTIONS = [
    {"image_size": 16},
    {"hflip": 1.5},
    {"color_jitter": -0.1},
    {"scale_jitter": (1.4, 0.7)},
    {"scale_jitter": (0, 2)},
    {"scale_jitter": [0.7]},
    {"scale_jitter": ["a", "b"]},
    {"crop": False, "random_crop": True},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_option_without_meaning_is_refused(landscape, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        VOC2007DetectionTiny(landscape, **options)


# --- augmentation ---------------------------------------------------------------------------------


def test_mirroring_mirrors_image_and_boxes(landscape):
    plain = VOC2007DetectionTiny(landscape, image_size=50)[0]
    mirrored = VOC2007DetectionTiny(landscape, image_size=50, hflip=1.0)[0]
    assert torch.equal(mirrored[1], plain[1].flip(2))
    # (0, 5, 5, 15) of the person in a square of 50 becomes (45, 5, 50, 15).
    expected = torch.tensor([[0, 0, 50, 50, CAR], [45, 5, 50, 15, PERSON], [-1.0] * 5])
    torch.testing.assert_close(mirrored[2], expected)


def test_colour_jitter_changes_colours_and_no_box(landscape):
    plain = VOC2007DetectionTiny(landscape, image_size=50)[0]
    jittered = VOC2007DetectionTiny(landscape, image_size=50, color_jitter=0.8)[0]
    assert not torch.equal(jittered[1], plain[1])
    assert torch.equal(jittered[2], plain[2])


def test_random_views_keep_boxes_on_their_objects(tmp_path):
    # A black image with a white rectangle, (60, 40, 100, 90): in every view the white pixels are where the box says.
    root = write_voc(tmp_path, {"000001": ((160, 120), [("dog", (61, 41, 100, 90), 0)])}, "train")
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[40:90, 60:100] = 255
    Image.fromarray(picture).save(tmp_path / "VOCdevkit/VOC2007/JPEGImages/000001.jpg", quality=100, subsampling=0)
    dataset = VOC2007DetectionTiny(root, image_size=96, hflip=0.5, scale_jitter=(0.6, 1.6))
    for seed in range(25):
        torch.manual_seed(seed)
        _, image, gt_boxes = dataset[0]
        assert image.shape == (3, 96, 96)
        rows, columns = torch.nonzero(image[0] > 1.5, as_tuple=True)  # white is (1 - 0.485) / 0.229 = 2.25
        if len(rows) == 0:
            assert (gt_boxes == -1).all()
            continue
        seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=torch.float32)
        torch.testing.assert_close(gt_boxes[0, :4], seen, atol=1.5, rtol=0)  # edges are blurred by resizing


def test_objects_lost_by_random_crops_are_counted(tmp_path):
    # The object lies in the left end of a long image; a random square often misses it.
    root = write_voc(tmp_path, {"000001": ((320, 64), [("dog", (1, 1, 8, 64), 0)])}, "train")
    dataset = VOC2007DetectionTiny(root, image_size=64, random_crop=True)
    lost = sum(int((dataset[0][2] == -1).all()) for _ in range(40))
    assert lost > 0
    summary = dataset.summary()
    assert (summary["random_crop_shown"], summary["random_crop_lost"]) == (40, lost)


def test_objects_lost_in_loader_processes_are_counted_too(sample):
    dataset = VOC2007DetectionTiny(sample, image_size=64, random_crop=True)
    for _ in DataLoader(dataset, batch_size=8, num_workers=2):
        pass
    assert dataset.summary()["random_crop_shown"] == dataset.summary()["objects"]


# --- the real VOC2007 -----------------------------------------------------------------------------

needs_voc = pytest.mark.skipif("FCOS_VOC_ROOT" not in os.environ, reason="FCOS_VOC_ROOT does not name a VOC2007 folder")


@needs_voc
def test_real_voc_has_the_known_numbers_of_images_and_boxes():
    train, val = (VOC2007DetectionTiny(os.environ["FCOS_VOC_ROOT"], split) for split in ("train", "val"))
    assert (len(train), len(val)) == (2501, 2510)
    assert (train.summary()["objects"], val.summary()["objects"]) == (6301, 6307)
    assert train.summary()["difficult"] + val.summary()["difficult"] == 3054
    assert not {a.id for a in train.annotations} & {a.id for a in val.annotations}
    assert val.summary()["lost_objects"] == val.summary()["lost_difficult"] == 0


@needs_voc
def test_real_voc_items_are_in_bounds():
    dataset = VOC2007DetectionTiny(os.environ["FCOS_VOC_ROOT"], "val")
    for index in range(0, len(dataset), 100):
        _, image, gt_boxes = dataset[index]
        height, width = dataset.content_size(index)
        boxes = gt_boxes[gt_boxes[:, 4] >= 0, :4]
        assert image.shape[1:] == (-(-height // 32) * 32, -(-width // 32) * 32)
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
