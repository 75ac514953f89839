"""Free memory goes back to the system."""

from __future__ import annotations

import platform

import psutil
import pytest

from harness.generative.training.trainer import release_free_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps holes, and only it is asked")
def test_holes_in_the_heap_are_given_back() -> None:
    def resident() -> int:
        return psutil.Process().memory_info().rss

    blocks = [bytes(1000) for _ in range(300_000)]  # too small to have pages of their own
    pins = blocks[::1000]  # these keep the heap from shrinking by itself
    full = resident()
    del blocks
    release_free_memory()
    assert full - resident() > 200_000_000 and len(pins) == 300
