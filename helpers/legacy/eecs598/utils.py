"""Seeding, under the old name."""

from helpers.seed import reset_seed

__all__ = ["reset_seed"]
