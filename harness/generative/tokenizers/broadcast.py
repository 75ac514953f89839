"""Item embeddings and codes: made by the main process, sent to all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.generative.tokenizers.index import SourceIndex, Vectors
from harness.protocol.context import RunContext
from harness.protocol.distributed import SINGLE_PROCESS, compute_on_main


def made_index(
    context: RunContext, make: Callable[[RunContext], tuple[Vectors, SourceIndex]]
) -> tuple[Vectors, SourceIndex]:
    """Vectors of sources and the item codes, in all processes."""
    return compute_on_main(context.world, lambda: make(replace(context, world=SINGLE_PROCESS)))
