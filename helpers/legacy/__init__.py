"""The module names that notebooks and submissions of the original assignment import: put this folder on `sys.path`."""
