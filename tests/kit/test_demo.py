"""`kit demo`, at a size that takes seconds."""

import base64
import json
import re
from dataclasses import replace

import pytest

from autograder.errors import KitError
from autograder.grade import refused_results, require_no_images
from autograder.tasks import FILES, ROOT, load_tasks
from helpers.sample import make_sample
from tools import demo


def test_demo_class_is_made_of_changes_that_apply(tmp_path):
    submissions = demo._lay_out_class(tmp_path)
    assert len(submissions) == 7
    for name, (_, folder) in submissions.items():
        assert all((folder / file).is_file() for file in FILES)
        if folder.is_relative_to(tmp_path):
            same = [(folder / f).read_text() == (ROOT / "solutions" / f).read_text() for f in FILES]
            assert not all(same), f"{name} is the solution"


def test_demo_page_shows_class_curve_detections_and_ap(tmp_path):
    root = make_sample(tmp_path / "sample", train=4, val=1)
    recipe = demo.Recipe("the generated sample", 4, 64, 3, 2, 1e-3, None)
    pictures, figures = demo.train_and_draw(recipe, root)
    assert 0 <= figures["mAP"] <= 1
    task = {"id": "1.1", "title": "<b>", "points": 0, "max_points": 12, "message": '"><script>alert(1)</script>'}
    results = {"tasks": [task], "total": 0, "isolation": "process"}
    page = demo._page([{"name": "a", "story": "s", "results": results}], recipe, pictures, figures, 5)
    assert page.count("data:image/png;base64,") == 3
    # Width and height stand in bytes 16 to 24 of a PNG: pictures side by side leave no gap when they are of one size.
    losses, ap = (base64.b64decode(pictures[name].partition(",")[2])[16:24] for name in ("losses", "ap"))
    assert losses == ap
    assert "looks weak" not in page
    real = replace(recipe, is_real=True)
    weak = demo._page([{"name": "a", "story": "s", "results": results}], real, pictures, figures, 5)
    assert "A run this short looks weak on photographs: it has seen 4 of them for 3 steps" in weak
    assert page == demo._page([{"name": "a", "story": "s", "results": results}], recipe, pictures, figures, 5)
    assert "<script>" not in page
    json.dumps(figures, allow_nan=False)


def test_demo_leaves_a_task_out_that_needs_held_out_images(tmp_path, monkeypatch):
    def quick(path, table, tasks, worker):
        require_no_images(table, tasks)  # as grading does
        return refused_results("graded by a stand-in", table, tasks)

    monkeypatch.setattr("autograder.grade.grade", quick)
    monkeypatch.setattr(demo, "load_tasks", lambda: load_tasks(given={"5.1": False}))
    graded = demo.grade_class(tmp_path / "class")
    assert [task["id"] for task in graded[0]["results"]["tasks"]] == [task.id for task in load_tasks().graded]
    assert len(graded) == 7


def test_demo_names_a_wrong_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FCOS_VOC_ROOT", str(tmp_path))
    with pytest.raises(KitError, match="no VOCdevkit/VOC2007 in there"):
        demo._choose_data(None)


def test_readme_has_the_points_of_the_table():
    rows = re.findall(r"^\| (\d\.\d) \|.*\| (\d+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {task_id: int(points) for task_id, points in rows} == {t.id: t.points for t in load_tasks().graded}
