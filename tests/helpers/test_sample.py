"""The generated sample: true to VOC's form, the same on every run, and safe to call again."""

import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from autograder.errors import KitError
from helpers.annotations import VOC_CLASSES
from helpers.pictograms import PICTOGRAMS, draw_pictogram
from helpers.sample import draw_scene, make_sample
from tools import data

# The elements of a VOC2007 annotation, in their order.
IMAGE_ELEMENTS = ["folder", "filename", "source", "size", "segmented"]
OBJECT_ELEMENTS = ["name", "pose", "truncated", "difficult", "bndbox"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample"), train=40, val=20, seed=3)


def digest(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }


def test_sample_has_the_folders_and_lists_of_a_vocdevkit(sample):
    voc = sample / "VOCdevkit" / "VOC2007"
    lists = {s: (voc / f"ImageSets/Main/{s}.txt").read_text().split() for s in ("train", "val", "trainval")}
    assert len(lists["train"]) == 40
    assert len(lists["val"]) == 20
    assert lists["trainval"] == sorted(lists["train"] + lists["val"])
    assert [p.stem for p in sorted((voc / "JPEGImages").iterdir())] == lists["trainval"]
    assert [p.stem for p in sorted((voc / "Annotations").iterdir())] == lists["trainval"]


def test_annotations_have_the_elements_of_voc_and_boxes_inside_the_image(sample):
    voc = sample / "VOCdevkit" / "VOC2007"
    for path in (voc / "Annotations").iterdir():
        root = ElementTree.parse(path).getroot()
        objects = root.findall("object")
        assert [e.tag for e in root] == IMAGE_ELEMENTS + ["object"] * len(objects)
        with Image.open(voc / "JPEGImages" / root.findtext("filename")) as image:
            width, height = image.size
        assert (width, height) == (int(root.findtext("size/width")), int(root.findtext("size/height")))
        assert 1 <= len(objects) <= 6
        for item in objects:
            assert [e.tag for e in item] == OBJECT_ELEMENTS
            assert item.findtext("name") in VOC_CLASSES
            x1, y1, x2, y2 = (int(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= x1 < x2 <= width
            assert 1 <= y1 < y2 <= height


def test_sample_is_varied(sample):
    roots = [ElementTree.parse(p).getroot() for p in (sample / "VOCdevkit/VOC2007/Annotations").iterdir()]
    sizes = {(int(r.findtext("size/width")), int(r.findtext("size/height"))) for r in roots}
    assert any(w > h for w, h in sizes)
    assert any(h > w for w, h in sizes)
    assert all(240 <= side <= 500 for size in sizes for side in size)
    flags = [item.findtext("difficult") for r in roots for item in r.findall("object")]
    assert 0 < flags.count("1") < 0.25 * len(flags)


def test_every_class_is_in_both_splits_of_the_default_sample():
    # The names alone: drawing without saving. Ids and streams as `make_sample(train=160, val=80, seed=0)` has them.
    names = [item["name"] for number in range(1, 241) for item in draw_scene(f"0/{number:06d}")[1]]
    counts = {name: names.count(name) for name in VOC_CLASSES}
    assert min(counts.values()) >= 15


def test_box_is_drawn_around_the_visible_pixels():
    # A scene with one object that is neither faint nor truncated: what differs from the soft ground is the object.
    for number in range(100):
        _, objects = draw_scene(f"box/{number}")
        if len(objects) == 1 and not objects[0]["truncated"] and not objects[0]["difficult"]:
            break
    x1, y1, x2, y2 = objects[0]["box"]
    name, width, height = objects[0]["name"], x2 - x1 + 1, y2 - y1 + 1
    # Drawn between 0.85 and 1.18 of the aspect in the table; a rotation by up to 9 degrees widens thin objects.
    drawn = draw_pictogram(name, 100, round(100 / PICTOGRAMS[name][0])).getchannel("A").getbbox()
    aspect = (drawn[2] - drawn[0]) / (drawn[3] - drawn[1])
    assert 0.6 * aspect < width / height < 1.7 * aspect


@pytest.mark.parametrize("name", VOC_CLASSES)
def test_pictogram_fills_its_rectangle(name):
    # The box of an object is where its pixels are, so a pictogram that left a margin would shrink its objects.
    alpha = draw_pictogram(name, 120, 90).getchannel("A").point(lambda a: 255 if a >= 128 else 0)
    x1, y1, x2, y2 = alpha.getbbox()
    assert (x1, y1) <= (3, 3)
    assert x2 >= 117
    assert y2 >= 87


def test_pictograms_are_the_classes_of_voc_with_colours_of_their_own():
    assert tuple(sorted(PICTOGRAMS)) == VOC_CLASSES
    pairs = [(main, accent) for _, main, accent, _ in PICTOGRAMS.values()]
    assert len(set(pairs)) == 20


def test_sample_is_the_same_bytes_each_time_and_other_with_another_seed(sample, tmp_path):
    again = make_sample(tmp_path / "again", train=40, val=20, seed=3)
    other = make_sample(tmp_path / "other", train=40, val=20, seed=4)
    assert digest(again) == digest(sample)
    image = "VOCdevkit/VOC2007/JPEGImages/000001.jpg"
    assert (again / image).read_bytes() != (other / image).read_bytes()


def test_second_call_touches_nothing(sample):
    before = {p: p.stat().st_mtime_ns for p in sample.rglob("*")}
    make_sample(sample, train=40, val=20, seed=3)
    assert {p: p.stat().st_mtime_ns for p in sample.rglob("*")} == before


@pytest.mark.parametrize("damage", ["cut", "remove", "manifest"])
def test_damaged_sample_is_made_anew(tmp_path, damage):
    root = make_sample(tmp_path, train=3, val=2)
    whole = digest(root)
    image = root / "VOCdevkit/VOC2007/JPEGImages/000002.jpg"
    if damage == "cut":
        image.write_bytes(image.read_bytes()[:-10])
    elif damage == "remove":
        image.unlink()
    else:
        (root / "VOCdevkit/sample.json").write_text('["not a manifest"]')
    make_sample(root, train=3, val=2)
    assert digest(root) == whole
    assert [p.name for p in root.iterdir()] == ["VOCdevkit"]


def test_other_arguments_replace_the_sample(tmp_path):
    make_sample(tmp_path, train=3, val=2)
    make_sample(tmp_path, train=4, val=1)
    assert len((tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/train.txt").read_text().split()) == 4
    assert json.loads((tmp_path / "VOCdevkit/sample.json").read_text())["val"] == 1


def test_foreign_vocdevkit_is_left_alone(tmp_path):
    real = tmp_path / "VOCdevkit/VOC2007/JPEGImages/000005.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"somebody's data")
    with pytest.raises(FileExistsError, match="not a generated sample"):
        make_sample(tmp_path)
    assert real.read_bytes() == b"somebody's data"


def test_interrupted_drawing_leaves_nothing_behind(tmp_path, monkeypatch):
    def stop(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("helpers.sample.draw_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        make_sample(tmp_path, train=3, val=2)
    assert list(tmp_path.iterdir()) == []


def run_command(*arguments: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    data.configure(parser)
    return data.run(parser.parse_args(arguments))


def test_command_makes_a_sample_and_says_where(tmp_path, capsys):
    root = tmp_path / "a b"
    assert run_command("sample", "--root", str(root), "--train", "2", "--val", "1") == 0
    assert str(root) in capsys.readouterr().out
    assert len(list((root / "VOCdevkit/VOC2007/JPEGImages").iterdir())) == 3


@pytest.mark.parametrize("arguments", [("--train", "0"), ("--val", "-1")])
def test_command_refuses_an_empty_split(tmp_path, arguments):
    with pytest.raises(KitError, match="at least 1"):
        run_command("sample", "--root", str(tmp_path), *arguments)
