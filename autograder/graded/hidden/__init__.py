"""Tests that students never receive: off-square sizes, other counts, empty images, fresh random inputs."""
