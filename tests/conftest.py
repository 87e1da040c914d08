"""For all tests of the kit."""

import signal


def pytest_configure(config):
    """Let Ctrl-C arrive: a runner in the background starts its children with SIGINT ignored, and they inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
