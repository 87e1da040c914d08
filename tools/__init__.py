"""The staff command line `kit`: one module for each command."""
