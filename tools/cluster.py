"""Sends submissions to a Dask cluster. Its machines have the kit installed and the class folder at the same path."""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from autograder.errors import KitError

_CONNECT_SECONDS = 10
_WORKERLESS_SECONDS = 600  # a cluster that is being started again has workers by then


@contextmanager
def dask_executor(address: str) -> Iterator[tuple[Executor, int, Callable[[], None]]]:
    """Connect to a cluster.

    Args:
        address: of the scheduler, such as "tcp://10.0.0.1:8786".

    Returns:
        An executor; the number of threads of all workers: so many jobs are at work at once; and a function to call
        while nothing comes back, see `WorkerWatch`.

    Raises:
        KitError: Dask is not installed, nothing answers at the address, or the cluster has no workers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise KitError("--dask needs the extra `cluster`: pip install 'fcos-course-kit[cluster]'") from None
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise KitError(f"--dask {address}: no scheduler answers there ({type(error).__name__})") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise KitError(f"--dask {address}: the cluster has no workers")
        # pure=False: the same file graded again is graded again, and not looked up in the cluster's memory.
        yield client.get_executor(pure=False), threads, WorkerWatch(client, address)


class WorkerWatch:
    """Called from time to time, says when a cluster has lost all its workers, and gives up when no new ones come.

    Dask itself would wait for ever, without a word.
    """

    def __init__(self, client, address: str, clock: Callable[[], float] = time.monotonic):
        self._client, self._address, self._clock = client, address, clock
        self._gone_since: float | None = None

    def __call__(self) -> None:
        """Look once; `KitError` when there have been no workers for too long."""
        try:
            workers = self._client.nthreads()
        except (OSError, RuntimeError, ValueError):  # the scheduler is gone as well
            workers = {}
        if workers:
            if self._gone_since is not None:
                self._say("workers are back")
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = self._clock()
            self._say(f"no workers are left; waiting {_WORKERLESS_SECONDS:g} s for new ones")
        elif self._clock() - self._gone_since >= _WORKERLESS_SECONDS:
            raise KitError(
                f"--dask {self._address}: no workers for {_WORKERLESS_SECONDS:g} s; start some and go on with --resume"
            )

    def _say(self, text: str) -> None:
        print(f"--dask {self._address}: {text}", file=sys.stderr, flush=True)
