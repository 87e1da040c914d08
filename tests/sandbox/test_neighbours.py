"""What one submission takes from the machine costs no other one a point."""

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from autograder import limits as limits_module
from autograder import sandbox, turns
from autograder.conversation import Outcome
from autograder.limits import Limits, Watchdog

NEEDS_HALF_A_SECOND = """
import time
def f():
    while time.process_time() < BEGAN + 0.5:
        pass
    return 7
import os
BEGAN = time.process_time()
"""
SPINNERS = 10


@pytest.fixture
def crowd():
    """One processor and, on it, spinning processes that each have a session of their own; `clear` ends them."""
    started = []

    class Crowd:
        def gather(self, worker):
            worker._await_ready()
            self.family = [worker._process, *psutil.Process(worker._process.pid).children(recursive=True)]
            place, self.everywhere = [min(os.sched_getaffinity(0))], os.sched_getaffinity(0)
            self._put(place)
            code = f"import os; os.sched_setaffinity(0, {place})\nwhile True: pass"
            for _ in range(SPINNERS):
                started.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True))

        def clear(self):
            for process in started:
                process.kill()
                process.wait()
            self._put(self.everywhere)

        def _put(self, place):
            for process in self.family:
                os.sched_setaffinity(process.pid, place)

    yield Crowd()
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells on Linux alone how long a process has waited")
def test_honest_submission_beside_spinning_processes_is_graded_again_alone(call, workers, crowd, monkeypatch):
    """It needs half a second of the three that it has; of one processor that eleven share it gets 0.3."""
    times_alone = []

    class Alone:
        def __enter__(self):
            times_alone.append(1)
            crowd.clear()  # as their own probes would end before this one's turn

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(turns, "alone", Alone)
    crowd.gather(workers("process"))
    outcome = call(NEEDS_HALF_A_SECOND, limits=Limits(seconds=3))
    assert (outcome.status, outcome.value, times_alone) == ("ok", 7, [1])


@pytest.mark.parametrize(
    ("code", "seconds"), [("import time\ndef f():\n    time.sleep(30)", 2), ("def f():\n    return 1 / 0", 20)]
)
def test_failure_of_its_own_is_not_repeated(call, monkeypatch, code, seconds):
    monkeypatch.setattr(turns, "alone", lambda: pytest.fail("it ran again"))
    assert call(code, limits=Limits(seconds=seconds)).status != "ok"


@pytest.fixture
def attempts(workers, obliging_submission, monkeypatch):
    """Function (outcomes, spare seconds) -> what a probe gets whose attempts end so, disturbed each time."""
    monkeypatch.setattr(Watchdog, "was_disturbed", True)
    worker = workers("process")
    worker._await_ready()

    def run(*outcomes, spare_seconds=1000.0):
        left = list(outcomes)
        monkeypatch.setattr(sandbox.Worker, "_converse", lambda *_: left.pop(0))
        outcome = worker.run({"folder": str(obliging_submission)}, Limits(seconds=2, spare_seconds=spare_seconds))
        return outcome, len(outcomes) - len(left)

    worker.allow(100)
    yield run
    worker.allow(100)


TIMEOUT, OK = Outcome("timeout"), Outcome("ok")


def test_disturbed_probe_has_one_more_attempt(attempts):
    assert attempts(TIMEOUT, OK) == (OK, 2)
    assert attempts(TIMEOUT, TIMEOUT, OK)[1] == 2
    assert attempts(OK, OK)[1] == 1


def test_submission_that_fails_alone_too_is_repeated_three_times_at_most(attempts):
    assert [attempts(TIMEOUT, TIMEOUT)[1] for _ in range(5)] == [2, 2, 2, 1, 1]


def test_probe_is_not_repeated_when_there_is_no_time(attempts):
    assert attempts(TIMEOUT, OK, spare_seconds=10) == (TIMEOUT, 1)


def test_machine_without_memory_disturbs(monkeypatch, workers):
    worker = workers("process")
    worker._await_ready()
    watchdog = Watchdog(worker._process.pid)
    assert not watchdog.was_disturbed
    monkeypatch.setattr(limits_module, "_LAST_RESERVE", 1 << 60)
    assert watchdog.check(Limits()) == ("memory", "used up the memory of this machine")
    assert watchdog.was_disturbed
    watchdog.begin()
    assert not watchdog.was_disturbed
    monkeypatch.setattr(limits_module, "_out_of_memory_kills", lambda: 1 << 60)
    assert watchdog.was_disturbed


def test_family_of_many_threads_has_low_priority(call):
    code = """
import os, time
def f():
    for _ in range(COUNT):
        if os.fork() == 0:
            time.sleep(10)
            os._exit(0)
    time.sleep(1)
    return os.getpriority(os.PRIO_PROCESS, 0)
"""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert call(code.replace("COUNT", "2")).value == before
    # 20 forks and their parent, of a thread each at least: log(21 / 4) / log(1.25) is 7.4.
    assert call(code.replace("COUNT", "20")).value >= max(before, 7)


def test_computing_of_children_that_nobody_waits_for_is_counted(call, workers):
    code = """
import os, signal, time
def f():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork() == 0:
        while time.process_time() < 1:
            pass
        os._exit(0)
    time.sleep(2.5)
    return 1
"""
    worker = workers("process")
    call("def f():\n    return 7")
    before = worker._left_cpu
    call(code, limits=Limits(seconds=30))
    assert before - worker._left_cpu > 0.3


def test_whoever_is_alone_keeps_others_out_and_waits_for_those_who_are_in():
    order = []

    def probe(turn, name, seconds):
        with turn():
            order.append(f"{name} in")
            time.sleep(seconds)
            order.append(f"{name} out")

    threads = []
    for turn, name in ((turns.beside_others, "first"), (turns.alone, "alone"), (turns.beside_others, "last")):
        threads.append(threading.Thread(target=probe, args=(turn, name, 0.5)))
        threads[-1].start()
        time.sleep(0.2)  # by now it is in, or stands at its door
    for thread in threads:
        thread.join()
    assert order == ["first in", "first out", "alone in", "alone out", "last in", "last out"]


def test_no_lock_is_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.1)
    with turns.alone(), turns.beside_others():
        pass
