"""A progress bar that fits a terminal, a notebook and a log file."""

import sys


def progress_bar(*args, **options):
    """`tqdm.tqdm`, but a log file gets a line every half minute instead of one for every change.

    Args:
        args, options: of `tqdm.tqdm`.

    Returns:
        The bar.
    """
    from tqdm import tqdm

    if _in_notebook():
        # A notebook shows stderr as if something had gone wrong, and breaks long lines.
        options = {"file": sys.stdout, "mininterval": 0.5, "ncols": 100, **options}
    return tqdm(*args, **{"mininterval": 0.5 if sys.stderr.isatty() else 30, **options})


def _in_notebook() -> bool:
    """Whether this process is a notebook's kernel; that somebody imported ipykernel does not make it one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")
