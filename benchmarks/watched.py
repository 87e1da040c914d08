"""Runs a command and watches how long it takes, and what memory it and its processes take."""

import subprocess
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


def run_watched(command, every=0.2, peaks=None, on_tick=lambda seconds, peaks: None, **options):
    """Run a command to its end; returns (seconds, peaks in bytes, exit code).

    Args:
        command: to run, in the repository unless `options` say otherwise.
        every: seconds between two looks at the memory.
        peaks: of an earlier run that this one goes on with.
        on_tick: called after every look with the seconds and the peaks so far.
        options: of `subprocess.Popen`.
    """
    peaks, ended, started = dict(peaks or {}), threading.Event(), time.monotonic()

    def watch():
        while not ended.is_set():
            _look(process.pid, peaks)
            on_tick(time.monotonic() - started, peaks)
            ended.wait(every)

    with subprocess.Popen(command, **{"cwd": ROOT, "stdout": subprocess.DEVNULL, **options}) as process:
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            code = process.wait()
        except BaseException:  # stopped: nobody would wait for the command any more
            process.terminate()
            process.wait()
            raise
        finally:
            ended.set()
            watcher.join()
    return time.monotonic() - started, peaks, code


def _look(parent, peaks):
    """Raise the peaks: of one grader, of one worker with its probe, and of everything together."""
    together = 0
    try:
        processes = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
    except psutil.Error:
        return
    for process in processes:
        try:
            kind = _kind(process, parent)
            # What processes share, a probe with the worker that it is a fork of, say, is counted once, in shares.
            share = process.memory_full_info().pss
            size = process.memory_info().rss if kind == "grader" else share
        except psutil.Error:
            continue  # it has just ended
        together += share
        peaks[kind] = max(peaks.get(kind, 0), size)
    peaks["together"] = max(peaks.get("together", 0), together)


def _kind(process, parent):
    if process.pid == parent:
        return "command"
    return "grader" if "autograder.grader_process" in process.cmdline() else "worker"
