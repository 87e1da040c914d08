"""Grading a class: once each, nothing lost, nobody harmed by a neighbour. The graders here are fakes."""

import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import fake_grader
import pytest
from fake_grader import OPTIONS, TABLE, fake_grade, make_class, results, run

from autograder import archives, batch
from autograder.archives import EntryRefused
from autograder.batch import Options, ResultStore, write_whole
from autograder.errors import KitError
from autograder.fingerprint import fingerprint
from autograder.graders import GraderDied
from autograder.held_out import HeldOut
from autograder.identity import find_submissions

STUDENTS = {f"s{i:02}": i % 7 for i in range(24)}


def tree(folder: Path) -> dict:
    """Every file under a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def totals(out: Path) -> dict:
    return {path.stem: json.loads(path.read_text())["total"] for path in (out / "results").glob("*.json")}


def test_every_submission_gets_its_own_result(tmp_path):
    tally, summary = run(make_class(tmp_path / "class", STUDENTS), tmp_path / "out")
    assert totals(tmp_path / "out") == STUDENTS
    assert (tally.graded, tally.points, tally.kept, tally.not_graded) == (24, sum(STUDENTS.values()), 0, {})
    assert summary["complete"] is True


def test_number_of_jobs_and_kind_of_executor_change_nothing(tmp_path):
    folder = make_class(tmp_path / "class", STUDENTS)
    run(folder, tmp_path / "one", in_flight=1)
    run(folder, tmp_path / "four", in_flight=4)
    run(folder, tmp_path / "processes", executor=ProcessPoolExecutor(2))
    assert tree(tmp_path / "one") == tree(tmp_path / "four") == tree(tmp_path / "processes")


def test_killed_at_random_and_resumed_gives_the_same_files_and_grades_nothing_twice(tmp_path):
    folder = make_class(tmp_path / "class", STUDENTS | {"refused": "refuse"})
    run(folder, tmp_path / "quiet")
    out, moments, kills = tmp_path / "out", random.Random(0), 0
    written: dict[Path, int] = {}
    for _ in range(60):
        arguments = [str(folder), str(out), *(["--resume"] if out.exists() else [])]
        process = subprocess.Popen([sys.executable, fake_grader.__file__, *arguments])
        enough = len(written) + moments.randrange(3)
        while process.poll() is None and len(list((out / "results").glob("*.json"))) < enough:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        kills += process.wait() < 0
        now = {path: path.stat().st_ino for path in (out / "results").glob("*.json")}
        assert {path: now[path] for path in written} == written  # a result that is there is not written again
        for path in now:
            json.loads(path.read_text())  # no half file
        written = now
        if len(now) == len(STUDENTS) + 1:
            break
    run(folder, out, resume=True)
    assert tree(out) == tree(tmp_path / "quiet")
    assert not (tmp_path / "graded_twice").exists()
    assert kills >= 10


def test_unfinished_file_is_removed_on_resume(tmp_path):
    folder, out = make_class(tmp_path / "class", STUDENTS), tmp_path / "out"
    run(folder, tmp_path / "quiet")
    (out / "results").mkdir(parents=True)
    (out / "results" / ".s03.json.part").write_text('{"total": 6')
    run(folder, out, resume=True)
    assert tree(out) == tree(tmp_path / "quiet")


def test_changed_submission_is_graded_again_and_the_others_are_kept(tmp_path):
    folder, out = make_class(tmp_path / "class", {"a": 1, "b": 2}), tmp_path / "out"
    run(folder, out)
    (folder / "b" / "common.py").write_text("5")
    tally, _ = run(folder, out, resume=True)
    assert tally.kept == 1
    assert totals(out) == {"a": 1, "b": 5}


def test_suspects_are_graded_again_alone_and_one_failure_costs_nobody_else(tmp_path):
    """A grader that dies takes its neighbours with it, until it is alone."""
    at_work, lock, broken = [], threading.Lock(), threading.Event()

    def grade(job):
        name = Path(job.paths[0]).name
        with lock:
            at_work.append(name)
        if name == "bad":
            alone = at_work == ["bad"]
            broken.set()
            with lock:
                at_work.remove(name)
            raise GraderDied("alone" if alone else "with others")
        time.sleep(0.01)
        with lock:
            at_work.remove(name)
        if broken.is_set() and name == "near" and not retried:
            retried.append(name)
            raise GraderDied("hit by a neighbour")
        return fake_grade(job)

    retried = []
    folder = make_class(tmp_path / "class", STUDENTS | {"bad": 0, "near": 3})
    tally, summary = run(folder, tmp_path / "out", grade=grade)
    assert tally.not_graded == {"bad": "alone"}
    assert retried == ["near"]
    assert totals(tmp_path / "out") == STUDENTS | {"near": 3}
    assert summary["complete"] is False
    assert summary["not_graded"] == [{"id": "bad", "reason": "alone"}]


def test_submission_that_could_not_be_graded_is_tried_again_on_resume(tmp_path):
    folder, out = make_class(tmp_path / "class", {"a": 1, "b": "die"}), tmp_path / "out"
    assert run(folder, out)[0].not_graded == {"b": "the grader ended: Killed"}
    tally, _ = run(folder, out, resume=True, grade=lambda job: fake_grader.results(4, 7, []))
    assert (tally.kept, tally.not_graded) == (1, {})
    assert totals(out) == {"a": 1, "b": 4}


def test_broken_kit_stops_the_class_early(tmp_path):
    folder = make_class(tmp_path / "class", dict.fromkeys(STUDENTS, "kit"))
    with pytest.raises(KitError, match="nothing can be graded: the reference is missing"):
        run(folder, tmp_path / "out")
    assert totals(tmp_path / "out") == {}


def test_results_of_another_kit_are_not_taken(tmp_path):
    folder = make_class(tmp_path / "class", {"a": 1})
    with pytest.raises(KitError, match="install the same kit everywhere"):
        run(folder, tmp_path / "out", grade=lambda job: fake_grade(job) | {"tasks_sha256": "0"})
    assert totals(tmp_path / "out") == {}


def test_results_do_not_say_whose_they_are(tmp_path):
    folder = make_class(tmp_path / "class", {"a": 1, "b": 2})
    forged = {"id": "a", "submission": "a", "submission_sha256": "0", "late": True, "members": ["a"]}
    run(folder, tmp_path / "out", grade=lambda job: fake_grade(job) | forged)
    stored = json.loads((tmp_path / "out" / "results" / "b.json").read_text())
    digest = fingerprint((folder / "b",))
    own = {"id": "b", "submission": "b", "submission_sha256": digest, "late": False, "members": []}
    assert {key: stored[key] for key in own} == own
    assert list(stored)[: len(own)] == list(own)


ROW = results(3, 7, [])["tasks"][0]
# What a grader answers in the place of 3 of 6 points for task 1.2 -> why it is not taken.
UNSOUND = [
    ({"total": 6}, "do not add up"),
    ({"max_total": 3}, "do not add up"),
    ({"total": "6"}, "no whole numbers"),
    ({"total": None}, "no whole numbers"),
    ({"tasks": [ROW | {"points": True}], "total": 1}, "no whole numbers"),
    ({"tasks": [ROW | {"points": 3.0}], "total": 3.0}, "no whole numbers"),
    ({"tasks": [ROW | {"points": 7}], "total": 7}, "more points than a task gives"),
    ({"tasks": [ROW | {"points": -1}], "total": -1}, "fewer than none"),
    ({"tasks": [ROW | {"max_points": 9}], "max_total": 9}, "other tasks than the table"),
    ({"tasks": [ROW | {"id": "9.9"}]}, "other tasks than the table"),
    ({"tasks": [ROW, ROW], "total": 6, "max_total": 12}, "other tasks than the table"),
    ({"tasks": []}, "other tasks than the table"),
    ({"tasks": [{"id": "1.2"}]}, "not complete (KeyError: 'max_points')"),
    ({"tasks": None}, "not complete (TypeError"),
]


@pytest.mark.parametrize(("change", "reason"), UNSOUND)
def test_results_that_the_table_does_not_allow_are_not_taken_and_the_class_goes_on(tmp_path, change, reason):
    def grade(job):
        return fake_grade(job) | (change if Path(job.paths[0]).name == "b" else {})

    tally, summary = run(make_class(tmp_path / "class", {"a": 1, "b": 3, "c": 2}), tmp_path / "out", grade=grade)
    assert reason in tally.not_graded["b"]
    assert totals(tmp_path / "out") == {"a": 1, "c": 2}
    assert [one["id"] for one in summary["not_graded"]] == ["b"]


def test_broken_pool_of_processes_loses_no_result_that_is_there(tmp_path):
    folder, out = make_class(tmp_path / "class", {"a": 1, "b": "kill", "c": 3}), tmp_path / "out"
    with pytest.raises(KitError, match="the executor takes no more jobs"):
        run(folder, out, executor=ProcessPoolExecutor(1), in_flight=1)
    assert totals(out) == {"a": 1}


def test_jobs_are_given_out_a_few_at_a_time(tmp_path):
    given, most = [], []

    class Counting(ThreadPoolExecutor):
        def submit(self, function, *args):
            future = super().submit(function, *args)
            given.append(future)
            most.append(sum(not one.done() for one in given))
            return future

    run(make_class(tmp_path / "class", STUDENTS), tmp_path / "out", executor=Counting(2), in_flight=3)
    assert len(given) == 24
    assert max(most) <= 3


def test_tally_is_told_after_every_submission(tmp_path):
    seen = []
    folder = make_class(tmp_path / "class", {"a": 1, "b": "refuse", "c": 3})
    run(
        folder,
        tmp_path / "out",
        in_flight=1,
        on_change=lambda tally, one, _: seen.append((one and one.id, tally.graded)),
    )
    assert seen == [(None, 0), ("a", 1), ("b", 2), ("c", 3)]


# ---- the store


def test_second_run_without_resume_is_refused(tmp_path):
    folder = make_class(tmp_path / "class", {"a": 1})
    run(folder, tmp_path / "out")
    with pytest.raises(KitError, match="holds results; go on with --resume"):
        run(folder, tmp_path / "out")


def test_results_without_the_held_out_images_that_are_asked_for_are_neither_kept_nor_written(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "described", vars)
    folder, out = make_class(tmp_path / "class", {"a": 1}), tmp_path / "out"
    run(folder, out)
    (submission,) = find_submissions(folder).submissions
    store = ResultStore(out, TABLE, replace(OPTIONS, held_out=HeldOut("images")))
    with pytest.raises(KitError, match="measured on other held-out images, or on none"):
        store.load(submission)
    with pytest.raises(KitError, match="the machine that grades has other held-out images"):
        store.save(submission, results(1, 7, []))
    store.save(submission, results(1, 7, []) | {"held_out": vars(HeldOut("images"))})
    assert store.load(submission)["total"] == 1


def test_results_name_the_members_of_a_group_and_without_them_are_made_again(tmp_path):
    folder, out = make_class(tmp_path / "class", {"pair": 1, "+x": 2}), tmp_path / "out"
    (folder / "pair" / "manifest.json").write_text('{"student_ids": ["ben1", "ann2"]}')
    run(folder, out)
    stored = {path.stem: json.loads(path.read_text()) for path in (out / "results").glob("*.json")}
    assert {one["submission"]: one["members"] for one in stored.values()} == {"pair": ["ann2", "ben1"], "+x": []}
    for name, one in stored.items():  # as an older kit wrote them
        (out / "results" / f"{name}.json").write_text(json.dumps({key: one[key] for key in one if key != "members"}))
    tally, _ = run(folder, out, resume=True)
    assert (tally.kept, tally.graded) == (1, 2)
    assert json.loads((out / "results" / "ann2+ben1.json").read_text())["members"] == ["ann2", "ben1"]


def test_two_runs_at_once_are_refused(tmp_path):
    store = ResultStore(tmp_path, TABLE, Options())
    with store.opened(resume=False), pytest.raises(KitError, match="another run"), store.opened(resume=True):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks_sha256": "0" * 64}, "another table of tasks"),
        ({"tasks": []}, "another table of tasks, --task"),
        ({"public_only": True}, "or --public-only"),
        ({"held_out": {"split": "val", "images": 300, "sha256": "0"}}, "measured on other held-out images, or on none"),
        (None, "not a result of this command"),
        ([], "not a result of this command"),
        ({"submission_sha256": 5}, ""),
    ],
)
def test_results_of_another_kind_are_not_mixed_in(tmp_path, change, message):
    folder, out = make_class(tmp_path / "class", {"a": 1}), tmp_path / "out"
    run(folder, out)
    path = out / "results" / "a.json"
    stored = json.loads(path.read_text())
    path.write_text("{" if change is None else json.dumps(change if change == [] else stored | change))
    if not message:
        assert run(folder, out, resume=True)[0].kept == 0
        return
    with pytest.raises(KitError, match=f"a.json: .*{message}"):
        run(folder, out, resume=True)


# level of a result that is there, level that is insisted on -> whether it is kept
KEPT = {
    ("process", None): True,
    ("process", "process"): True,
    ("process", "bubblewrap"): False,
    ("uid", "bubblewrap"): False,
    ("bubblewrap", "process"): True,
    ("not started", "bubblewrap"): True,  # nothing ran
    ("", "process"): False,
}


@pytest.mark.parametrize(("level", "wanted"), KEPT)
def test_result_of_a_weaker_isolation_than_is_insisted_on_is_none(tmp_path, level, wanted):
    (submission,) = find_submissions(make_class(tmp_path / "class", {"a": 1})).submissions
    ResultStore(tmp_path / "out", TABLE, OPTIONS).folder.mkdir(parents=True)
    ResultStore(tmp_path / "out", TABLE, OPTIONS).save(submission, results(1, 7, []) | {"isolation": level})
    store = ResultStore(tmp_path / "out", TABLE, replace(OPTIONS, isolation=wanted))
    assert (store.load(submission) is not None) == KEPT[level, wanted]
    assert store.weaker == (set() if KEPT[level, wanted] else {"a"})


def test_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="results cannot be written there"):
        run(make_class(tmp_path / "class", {"a": 1}), tmp_path / "file" / "out")


def test_file_is_whole_or_not_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.json", "old")
    monkeypatch.setattr(batch.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(KitError, match="No space left"):
        write_whole(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"


def test_fingerprint_follows_names_and_content(tmp_path):
    folder = make_class(tmp_path, {"a": "x = 1", "b": "x = 2", "c": "x = 1"})
    assert len({fingerprint((folder / name,)) for name in "abc"}) == 3  # the name counts
    before = fingerprint((folder / "a",))
    (folder / "a" / "link").symlink_to("/etc/passwd")
    assert fingerprint((folder / "a",)) != before
    assert fingerprint((folder / "a",)) == fingerprint((folder / "a",))


def test_fingerprint_sees_what_comes_after_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    """A broken file must not hide that the others were changed."""
    (tmp_path / "a.py").write_text("a")
    (tmp_path / "b.py").write_text("b")

    def read_entry(entry, limit):
        if entry.name == "a.py":
            raise EntryRefused("cannot be read (PermissionError)")
        return archives.read_entry(entry, limit)

    monkeypatch.setattr("autograder.fingerprint.read_entry", read_entry)
    before = fingerprint((tmp_path,))
    (tmp_path / "b.py").write_text("c")
    assert fingerprint((tmp_path,)) != before
