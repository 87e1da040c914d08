"""A class on a Dask cluster of two worker processes, one of which is killed midway."""

import json
import os
import signal

import pytest
from fake_grader import OPTIONS, TABLE, fake_grade, make_class, run

from autograder.batch import ResultStore, Tally, grade_class
from autograder.identity import find_submissions
from autograder.summary import write_summary
from tools.cluster import dask_executor

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, scheduler_port=0
    ) as local:
        yield local


def test_worker_killed_midway_changes_no_result(cluster, tmp_path):
    folder = make_class(tmp_path / "class", {f"s{i:02}": i % 7 for i in range(20)} | {"bad": "refuse"})
    run(folder, tmp_path / "quiet")
    found, store = find_submissions(folder), ResultStore(tmp_path / "out", TABLE, OPTIONS)
    victims = [worker.pid for worker in cluster.workers.values()]
    tally = Tally(len(found.submissions))

    def on_change(tally, submission, results):
        if tally.graded == 4 and victims:
            os.kill(pid_of_worker(cluster), signal.SIGKILL)
            victims.clear()

    with store.opened(resume=False), dask_executor(cluster.scheduler_address) as (executor, threads):
        assert threads == 2
        grade_class(found, store, OPTIONS, executor, 2 * threads, tally, on_change, fake_grade)
        write_summary(found, store, tally, TABLE)
    assert victims == []
    assert tally.not_graded == {}
    for quiet in (tmp_path / "quiet").rglob("*.*"):
        assert (tmp_path / "out" / quiet.relative_to(tmp_path / "quiet")).read_bytes() == quiet.read_bytes()


def pid_of_worker(cluster) -> int:
    return next(iter(cluster.workers.values())).pid


def test_grading_function_itself_runs_on_the_cluster(cluster, tmp_path):
    from autograder.graders import Job, grade_job

    (tmp_path / "empty").mkdir()
    with dask_executor(cluster.scheduler_address) as (executor, _):
        results = executor.submit(grade_job, Job((str(tmp_path / "empty"),), tasks=("1.2",))).result(timeout=120)
    assert json.loads(json.dumps(results))["notes"] == ["empty: holds neither common.py nor one_stage_detector.py"]
