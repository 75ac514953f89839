"""Malformed input: how it is made, and every reader that must refuse it."""
