"""The image cache: the same pixels, built once, and never a stale or half-written one."""

import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import VOC2007DetectionTiny, make_sample
from helpers.annotations import read_split
from helpers.cache import build_cache, decode, resized_shape


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample"), train=24, val=12)


def shapes_of(annotations, size):
    return [resized_shape(a.width, a.height, size) for a in annotations]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_cached_items_equal_decoded_ones(sample, tmp_path, split, kind):
    plain = VOC2007DetectionTiny(sample, split, image_size=64)
    cached = VOC2007DetectionTiny(sample, split, image_size=64, cache="memory" if kind == "memory" else tmp_path)
    for index in range(len(plain)):
        assert plain[index][0] == cached[index][0]
        assert torch.equal(plain[index][1], cached[index][1])
        assert torch.equal(plain[index][2], cached[index][2])


def test_cache_counts_from_the_end_and_ends_like_a_list(sample):
    cached = VOC2007DetectionTiny(sample, "val", image_size=64, cache="memory")
    assert torch.equal(cached[-1][1], cached[11][1])
    with pytest.raises(IndexError):
        cached[12]


def test_cache_on_disk_is_built_once(sample, tmp_path, monkeypatch):
    VOC2007DetectionTiny(sample, image_size=64, cache=tmp_path)
    monkeypatch.setattr("helpers.cache.decode", lambda *_: pytest.fail("decoded again"))
    assert VOC2007DetectionTiny(sample, image_size=64, cache=tmp_path)[0][1].shape == (3, 64, 64)


@pytest.mark.parametrize("change", ["size", "list", "pixels", "index"])
def test_cache_is_built_anew_when_it_does_not_fit(sample, tmp_path, change):
    annotations = read_split(sample, "val")[:4]
    paths, shapes = [a.path for a in annotations], shapes_of(annotations, 32)
    build_cache(tmp_path, "x", paths, shapes)
    if change == "size":
        shapes = shapes_of(annotations, 40)
    elif change == "list":
        paths, shapes = paths[::-1], shapes[::-1]
    elif change == "pixels":
        os.truncate(tmp_path / "x" / "pixels.u8", 100)
    else:
        (tmp_path / "x" / "index.json").write_text("[]")
    cache = build_cache(tmp_path, "x", paths, shapes)
    fresh = build_cache("memory", "x", paths, shapes)
    for index in range(4):
        np.testing.assert_array_equal(cache[index], fresh[index])
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_interrupted_cache_leaves_nothing_behind(sample, tmp_path):
    annotations = read_split(sample, "val")[:3]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    paths = [*(a.path for a in annotations), broken]
    with pytest.raises(OSError, match=r"broken\.jpg"):
        build_cache(tmp_path / "cache", "x", paths, [*shapes_of(annotations, 32), (32, 40)])
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_process_left_is_removed_when_it_is_old(sample, tmp_path):
    for name, age in ((".building-old", 3 * 24 * 3600), (".building-new", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pixels.u8").write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    VOC2007DetectionTiny(sample, image_size=64, cache=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".building-new", "train-64"]


@pytest.mark.parametrize(("size", "fits"), [((500, 375), True), ((500, 374), True), ((999, 375), False)])
def test_image_of_another_form_than_its_annotation_is_refused(tmp_path, size, fits):
    Image.new("RGB", size).save(tmp_path / "000001.jpg")
    shape = resized_shape(500, 375, 224)
    if fits:
        assert decode(tmp_path / "000001.jpg", shape).shape == (3, *shape)
        return
    with pytest.raises(OSError, match=r"000001\.jpg .*999 x 375 pixels, and its annotation gives .* 299 x 224"):
        decode(tmp_path / "000001.jpg", shape)


def test_full_disk_is_said_before_decoding(sample, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    paths = [a.path for a in read_split(sample, "val")]
    with pytest.raises(OSError, match=r"needs \d+ MB .* 0 MB are free"):
        build_cache(tmp_path, "x", paths, [(320, 400)] * len(paths))


def test_mapped_cache_travels_to_other_processes_by_name(sample, tmp_path):
    dataset = VOC2007DetectionTiny(sample, image_size=96, cache=tmp_path)
    sent = pickle.dumps(dataset._cache)
    assert len(sent) < 5000  # all pixels together are 24 * 3 * 96 * 96 bytes at least, 660 kB
    np.testing.assert_array_equal(pickle.loads(sent)[3], dataset._cache[3])
