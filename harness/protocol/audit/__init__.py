"""Checks that a split leaks nothing."""
