"""What grades. In notebooks: `from autograder import check`."""

__all__ = ["check"]


def __getattr__(name):
    if name == "check":
        from autograder.feedback import check

        return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
