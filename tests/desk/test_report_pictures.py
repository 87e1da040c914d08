"""`kit report` of a class whose detectors were measured: the column to sort by, and what was found and missed."""

import base64
import io
import json
import re

import pytest
from PIL import Image
from synthetic import student, write_results

from autograder.desk.pictures import draw
from autograder.desk.results import load_class
from tools.cli import main

HELD_OUT = {"split": "val", "images": 300, "sha256": "5e1f"}
CAT, DOG, HARD = ([10, 10, 110, 110, "cat", False], [200, 50, 300, 150, "dog", False], [0, 0, 60, 60, "cow", True])
HIT, OFF, EASY = ([10, 10, 110, 90, "cat", 0.9], [10, 10, 110, 60, "cat", 0.5], [0, 0, 60, 60, "cow", 0.7])

# Truth, detections -> objects found, of how many, wrong detections, kinds of the boxes that are drawn.
DRAWN = {
    "found": ([CAT], [HIT], (1, 1, 0), ["right"]),
    "missed": ([CAT, DOG], [HIT], (1, 2, 0), ["missed", "right"]),
    "nothing there": ([CAT], [], (0, 1, 0), ["missed"]),
    "nobody asked": ([], [HIT], (0, 0, 1), ["wrong"]),
    "too loose": ([CAT], [[0, 0, 300, 300, "cat", 0.9]], (0, 1, 1), ["missed", "wrong"]),
    "another class": ([CAT], [[*HIT[:4], "dog", 0.9]], (0, 1, 1), ["missed", "wrong"]),
    "twice": ([CAT], [HIT, OFF], (1, 1, 1), ["wrong", "right"]),  # IoU 0.8 and 0.5: the surer one has it
    "a difficult one": ([HARD], [EASY], (0, 0, 0), ["right"]),
    "a difficult one, not found": ([HARD], [], (0, 0, 0), []),
}


@pytest.mark.parametrize("case", DRAWN)
def test_boxes_are_counted_as_a_person_would(case):
    truth, found, (right, count, wrong), kinds = DRAWN[case]
    (picture,) = draw([{"id": "000007", "truth": truth}, {"id": "000008", "truth": []}], {"000007": found})
    said = f"{right} of {count} objects found, {count - right} missed, {wrong} wrong detections"
    assert picture.summary == f"Image 000007: {said}"
    assert [box.kind for box in picture.boxes] == kinds


def jpeg() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def measured(tmp_path):
    """Three students' results: 41.2 %, not measured, 9.5 %, and one that found a cat."""
    images = [{"id": f"00000{n}", "width": 400, "height": 300, "jpeg": jpeg(), "truth": [CAT, DOG]} for n in (7, 8)]
    found = {"000007": [HIT], "000008": []}
    students = [
        student("ann", measures={"mAP": 0.412}, pictures=found, held_out=HELD_OUT),
        student("ben", measures={}, pictures={}, held_out=HELD_OUT),
        student("cat", measures={"mAP": 0.095}, pictures=found, held_out=HELD_OUT),
    ]
    folder = write_results(tmp_path / "out", students)
    (folder / "held-out.json").write_text(json.dumps({"sha256": HELD_OUT["sha256"], "pictures": images}))
    return folder


def test_page_shows_each_image_once_and_what_everybody_found(measured, chromium):
    assert main(["report", str(measured), "--pages", str(measured / "pages")]) == 0
    page = (measured / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.count('<use href="#held-0"/>') == 2  # of those who have detections
    assert page.count('aria-label="Image 000007: 1 of 2 objects found, 1 missed, 0 wrong detections"') == 2
    assert page.count('aria-label="Image 000008: 0 of 2 objects found, 2 missed, 0 wrong detections"') == 2
    assert "mAP on 300 held-out images: 41.20%" in page
    assert "mAP on 300 held-out images: not measured" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    # What is sorted by is the number, and who has none comes last when the best come first.
    sort = """
      const button = [...document.querySelectorAll('#students thead button')].find((one) => one.textContent === 'mAP');
      button.click(); button.click();
    """
    acted = measured / "acted.html"
    acted.write_text(re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", f"<script>{sort}</script></body>"))
    dom = chromium(acted)
    body = re.search(r'<table id="students">.*?<tbody>(.*?)</tbody>', dom, re.DOTALL)[1]
    assert re.findall(r'<a href="#s\d">(\w+)</a>', body) == ["ann", "cat", "ben"]
    assert re.findall(r">([\d.]+ %|n/a)<", body) == ["41.2 %", "9.5 %", "n/a"]


def test_images_load_under_the_policy_of_the_page(measured, chromium, tmp_path):
    assert main(["report", str(measured)]) == 0
    page = (measured / "report.html").read_text()
    opened = measured / "opened.html"
    opened.write_text(page.replace('<details class="card"', '<details open class="card"'))
    picture = tmp_path / "page.png"
    chromium(opened, f"--screenshot={picture}", "--window-size=1000,3000")
    colors = {color[:3] for _, color in Image.open(picture).convert("RGB").getcolors(1 << 24)}
    assert any(abs(r) < 12 and abs(g - 128) < 12 and abs(b - 128) < 12 for r, g, b in colors)  # teal


def test_pages_for_students_hold_no_truth(measured):
    assert main(["report", str(measured), "--pages", str(measured / "pages")]) == 0
    for path in (measured / "pages").iterdir():
        text = path.read_text()
        assert "mAP on 300 held-out images" in text
        assert not re.search("jpeg|00000[78]|dog", text)


def test_pictures_of_other_images_are_not_shown(measured):
    images = json.loads((measured / "held-out.json").read_text())
    (measured / "held-out.json").write_text(json.dumps(images | {"sha256": "0"}))
    assert load_class(measured).pictures == []
    assert main(["report", str(measured)]) == 0
    assert "data:image" not in (measured / "report.html").read_text()


def test_figure_stands_in_the_gradebook(measured, tmp_path):
    out = tmp_path / "grades.csv"
    assert main(["gradebook", str(measured), "--out", str(out)]) == 0
    rows = [line.split(",") for line in out.read_text().splitlines()]
    column = rows[0].index("mAP_percent")
    assert {row[0]: row[column] for row in rows[1:]} == {"ann": "41.2", "ben": "", "cat": "9.5"}


BROKEN = {
    "held_out": (5, "on how many images|how many images"),
    "measures": ({"mAP": "much"}, "a measure that is no number"),
    "pictures": ({"000007": [[1, 2, 3, 4, "cat"]]}, "detections that are none"),
}


@pytest.mark.parametrize("key", BROKEN)
def test_results_with_broken_measures_are_refused(key, measured, capsys):
    value, said = BROKEN[key]
    path = measured / "results" / "000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert main(["report", str(measured)]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_results_measured_on_other_images_are_not_compared(measured, capsys):
    path = measured / "results" / "000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"held_out": HELD_OUT | {"sha256": "0"}}))
    assert main(["report", str(measured)]) == 2
    assert "another table of tasks or other options" in capsys.readouterr().err
