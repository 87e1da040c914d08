"""A class on a Dask cluster of two worker processes, one of which is killed midway."""

import json
import os
import signal

import pytest
from fake_grader import OPTIONS, TABLE, fake_grade, make_class, run

from autograder import batch
from autograder.batch import ResultStore, Tally, grade_class
from autograder.errors import KitError
from autograder.identity import find_submissions
from autograder.summary import write_summary
from tools.cluster import WorkerWatch, dask_executor

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

    with store.opened(resume=False), dask_executor(cluster.scheduler_address) as (executor, threads, check):
        assert threads == 2
        grade_class(found, store, OPTIONS, executor, 2 * threads, tally, on_change, fake_grade, check)
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
    with dask_executor(cluster.scheduler_address) as (executor, _, _):
        results = executor.submit(grade_job, Job((str(tmp_path / "empty"),), tasks=("1.2",))).result(timeout=120)
    assert json.loads(json.dumps(results))["notes"] == ["empty: holds neither common.py nor one_stage_detector.py"]


def test_cluster_that_loses_all_workers_is_named_and_given_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch, "CHECK_AFTER", 0.1)
    monkeypatch.setattr("tools.cluster._WORKERLESS_SECONDS", 0.3)
    folder = make_class(tmp_path / "class", {f"s{i:02}": 3 for i in range(8)})
    found, store = find_submissions(folder), ResultStore(tmp_path / "out", TABLE, OPTIONS)
    tally = Tally(len(found.submissions))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", scheduler_port=0
    ) as local:

        def on_change(tally, submission, results):
            if tally.graded == 2:
                local.scale(0)

        with (
            pytest.raises(KitError, match=r"no workers for 0\.3 s; start some and go on with --resume"),
            store.opened(resume=False),
            dask_executor(local.scheduler_address) as (executor, _, check),
        ):
            grade_class(found, store, OPTIONS, executor, 1, tally, on_change, fake_grade, check)
    assert 2 <= tally.graded < 8
    assert "no workers are left; waiting 0.3 s for new ones" in capsys.readouterr().err


def test_watch_gives_a_cluster_time_to_come_back(monkeypatch, capsys):
    monkeypatch.setattr("tools.cluster._WORKERLESS_SECONDS", 10)
    now, workers = 0.0, {"tcp://a": 2}

    class Client:
        def nthreads(self):
            if workers is None:
                raise OSError("the scheduler is gone")
            return workers

    watch = WorkerWatch(Client(), "tcp://x", clock=lambda: now)
    watch()
    assert capsys.readouterr().err == ""
    for now, workers in [(1, {}), (9, None), (10.5, {"tcp://b": 2}), (11, {}), (20.5, {})]:  # noqa: B007
        watch()
    assert capsys.readouterr().err.splitlines() == [
        "--dask tcp://x: no workers are left; waiting 10 s for new ones",
        "--dask tcp://x: workers are back",
        "--dask tcp://x: no workers are left; waiting 10 s for new ones",
    ]
    now = 21
    with pytest.raises(KitError, match="--dask tcp://x: no workers for 10 s"):
        watch()
