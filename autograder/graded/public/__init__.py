"""Tests that students receive."""
