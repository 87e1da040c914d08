"""The registry with every module of builders imported."""

from autograder.oracle import detector_cases  # noqa: F401 - registers its builders
from autograder.oracle.cases import CASES

__all__ = ["CASES"]
