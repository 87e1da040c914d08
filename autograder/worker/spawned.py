"""Start of a worker without fork: `python -I -S -B -u spawned.py CONFIG`, with frames on stdin and stdout.

CONFIG is JSON: "packages" (folders to import from), "root" (where helpers lie). It writes the line "ready" once; then,
for each probe, it reads a line of JSON {"seconds", "import_seconds"} and a request frame, and writes the answer's
frames. It ends with its stdin.
"""

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path


class Pipes:
    """Stdin and stdout with the two methods of a socket that `child.Channel` calls."""

    def __init__(self):
        self.source = os.fdopen(os.dup(0), "rb")
        self._target = os.fdopen(os.dup(1), "wb")
        # From now on a submission that reads gets nothing, and what it prints goes to stderr.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)

    def recv(self, count: int) -> bytes:
        """Return what has arrived, at most so many bytes; empty at the end."""
        return self.source.read1(count)

    def sendall(self, data: bytes) -> None:
        """Write everything."""
        self._target.write(data)
        self._target.flush()


def load_package() -> None:
    """Make this folder the package `fcos_worker`, as `__main__` does."""
    here = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        "fcos_worker", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    sys.modules["fcos_worker"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["fcos_worker"])
    # Limits without the `resource` and `signal` of Unix; `child` and `submission` import them under this name.
    sys.modules["fcos_worker.limits"] = importlib.import_module("fcos_worker.thread_limits")


def main() -> None:
    """Set the import path, import what every probe needs, and serve."""
    config = json.loads(sys.argv[1])
    sys.argv = ["worker"]
    sys.path += config["packages"]
    pipes = Pipes()
    load_package()
    sys.meta_path.insert(0, importlib.import_module("fcos_worker.__main__").HelpersFinder(config["root"]))
    child = importlib.import_module("fcos_worker.child")
    models = importlib.import_module("fcos_worker.models")
    importlib.import_module("torchvision.models.feature_extraction")
    importlib.import_module("torch").set_num_threads(1)
    pipes.sendall(b"ready\n")
    with models.offline_models():
        while line := pipes.source.readline():
            times = json.loads(line)
            path = list(sys.path)
            child.run_probe(pipes, times["seconds"], times["import_seconds"])
            sys.path[:] = path


if __name__ == "__main__":
    main()
