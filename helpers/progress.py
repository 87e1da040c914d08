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

    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(*args, mininterval=0.5 if watched else 30, **options)
