"""Sends submissions to a Dask cluster. Its machines have the kit installed and the class folder at the same path."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from autograder.errors import KitError

_CONNECT_SECONDS = 10


@contextmanager
def dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    """Connect to a cluster.

    Args:
        address: of the scheduler, such as "tcp://10.0.0.1:8786".

    Returns:
        An executor, and the number of threads of all workers: so many jobs are at work at once.

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
        yield client.get_executor(pure=False), threads
