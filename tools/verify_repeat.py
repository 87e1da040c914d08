"""`kit verify --repeat N`: however often a submission is graded, its results are the same, byte for byte.

The gradings differ in what must not matter: each has a worker of its own and lies in another folder, torch's threads
are set to one or two before it, and pytest is given the graded tests in random order.
"""

import concurrent.futures
import json
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path
from unittest import mock

import pytest

from tools.readme_section import write_section
from tools.specimens import Specimen, read_mutants, read_variants

SAMPLES = ("solutions", "4.2/no-square-root", "merged-after-smoothing")  # all points, a mistake, a partial solution
RECORDED = ("versions", "tasks_sha256", "seed", "isolation")  # what a person needs to get the same results again
_ORDER = "KIT_VERIFY_ORDER"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Shuffle the graded tests; this module is a pytest plugin in `results_of`."""
    random.Random(int(os.environ[_ORDER])).shuffle(items)


def samples() -> list[Specimen]:
    """Return the submissions that are graded again and again."""
    known = {specimen.name: specimen for specimen in (*read_variants(), *read_mutants())}
    return [known[name] for name in SAMPLES]


def results_of(specimen: Specimen, number: int, tasks: set[str] | None = None) -> str:
    """Grade a specimen; `number` decides on the threads and the order. Returns the results as JSON."""
    import torch

    from autograder.grade import grade
    from autograder.oracle.patches import write_files

    threads = torch.get_num_threads()
    torch.set_num_threads(1 + number % 2)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f"kit-{number}-") as folder,
            mock.patch.dict(os.environ, {"PYTEST_ADDOPTS": f"-p {__name__}", _ORDER: str(number)}),
        ):
            write_files(specimen.files, Path(folder))
            return json.dumps(grade(Path(folder), specimen.table, tasks), sort_keys=True)
    finally:
        torch.set_num_threads(threads)


def measure(times: int, jobs: int = 1, tasks: set[str] | None = None) -> dict:
    """Grade every sample `times` times.

    Returns:
        {"repeated", "results": {sample: number of different results}, "identical", "recorded", "seconds"}.
    """
    chosen, started = samples(), time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = {one.name: [pool.submit(results_of, one, i, tasks) for i in range(times)] for one in chosen}
        results = {name: {future.result() for future in futures} for name, futures in runs.items()}
    any_result = json.loads(next(iter(results["solutions"])))
    return {
        "repeated": times,
        "results": {name: len(different) for name, different in results.items()},
        "identical": all(len(different) == 1 for different in results.values()),
        "recorded": {name: any_result[name] for name in RECORDED},
        "seconds": round(time.monotonic() - started),
    }


def run(args) -> int:
    """Print how many different results there were; 1 when a submission has got two."""
    specimen = samples()[0]
    tasks = {task.id for task in specimen.table.graded if task.symbols} if args.train == "none" else None
    figures = measure(args.repeat, args.jobs, tasks)
    lines = [
        f"`{name}`: {args.repeat} gradings, {different} result{'' if different == 1 else 's'}"
        for name, different in figures["results"].items()
    ]
    print("\n".join(lines).replace("`", ""))
    print(f"{figures['seconds']} s; recorded: {figures['recorded']}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if args.readme:
        what = "all tasks but the one that trains" if tasks else "all tasks"
        write_section("kit verify --repeat 20 --readme", [f"- {line}; {what}." for line in lines])
    return 0 if figures["identical"] else 1
