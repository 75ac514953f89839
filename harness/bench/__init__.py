"""Benchmarks against reference implementations, paired in one run, which also assert equal results."""
