"""Graded tests: ordinary pytest tests whose `submission` fixture runs probes in a worker."""
