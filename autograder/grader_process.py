"""One grader process: reads a job from each line of its input, answers in one line, and ends with its parent.

`python -m autograder.grader_process FOLDER`; everything temporary goes into FOLDER. It imports torch once for many
submissions, and each submission gets a worker of its own.
"""

import json
import os
import queue
import re
import shutil
import sys
import tempfile
import threading
from pathlib import Path

# What differs from run to run in a message: a file's place before its name, where an object lies in memory, a nonce.
_VARYING = re.compile(r"/[^\s\"']*/kit-submission-[^/\s\"']+/?|(?<=\b0x)[0-9a-f]{6,16}\b|\b[0-9a-f]{32}\b")


def main() -> None:
    """Serve until the parent closes the input, or ends in any other way."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what anything prints is no answer
    tempfile.tempdir = sys.argv[1]
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    while True:
        answers.write(json.dumps(answer(json.loads(jobs.get()))) + "\n")
        answers.flush()


def _read(jobs: queue.SimpleQueue) -> None:
    for line in sys.stdin:
        jobs.put(line)
    # The parent is gone, perhaps in the middle of a submission. A worker ends with its grader.
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os._exit(0)


def answer(job: dict) -> dict:
    """Grade one submission.

    Args:
        job: {"paths", "tasks", "public_only", "isolation", "held_out"}, as `autograder.graders.Job` has them.

    Returns:
        {"results": ..., "memory": bytes of this process}, or {"error": what is wrong with the kit or the call}.
    """
    import psutil

    from autograder.archives import SubmissionRefused
    from autograder.errors import KitError
    from autograder.grade import grade, refused_results
    from autograder.held_out import HeldOut

    tasks = None if job["tasks"] is None else set(job["tasks"])
    held_out = None if job["held_out"] is None else HeldOut(**job["held_out"])
    what = {"tasks": tasks, "public_only": job["public_only"], "held_out": held_out}
    try:
        try:
            results = grade([Path(path) for path in job["paths"]], isolation=job["isolation"], **what)
        except SubmissionRefused as refused:
            results = refused_results(str(refused), **what)
    except KitError as error:
        return {"error": str(error)}
    return {"results": steady(results), "memory": psutil.Process().memory_info().rss}


def steady(results):
    """Return results without what differs from run to run: a second one has to give the same, byte for byte.

    Each text is taken by itself. Most of them are a submission's, and must not be read together with what stands
    between them in a file.
    """
    if isinstance(results, str):
        return _VARYING.sub("", results)
    if isinstance(results, dict):
        return {key: steady(value) for key, value in results.items()}
    if isinstance(results, (list, tuple)):
        return [steady(value) for value in results]
    return results


if __name__ == "__main__":
    main()
