"""Item embeddings and codes: computed by the main process, broadcast to all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.embeddings import ItemVectors
from harness.generative.tokenizers.index import ItemIndex, SourceIndex, Vectors
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.distributed import SINGLE_PROCESS, compute_on_main


def made_index(
    context: RunContext, make: Callable[[RunContext], tuple[Vectors, SourceIndex]]
) -> tuple[Vectors, SourceIndex]:
    """Vectors of the sources and the item codes, computed by the main process."""
    return compute_on_main(context.world, lambda: make(replace(context, world=SINGLE_PROCESS)), _pack, _unpack)


def made_codes(context: RunContext, make: Callable[[RunContext], ItemIndex]) -> ItemIndex:
    """Item codes only, computed by the main process."""
    return compute_on_main(
        context.world,
        lambda: make(replace(context, world=SINGLE_PROCESS)),
        lambda index: (_index_fields(index), [index.table.digits]),
        lambda message, arrays: ItemIndex(**_parts(message, arrays[0])),
    )


def _pack(pair: tuple[Vectors, SourceIndex]) -> tuple[Any, list[np.ndarray]]:
    vectors, index = pair
    sources = {
        source: {"key": one.key, "provenance": one.provenance.model_dump(), "details": one.details}
        for source, one in vectors.items()
    }
    fields = {"vectors": sources, "index": _index_fields(index), "blocks": index.blocks}
    return fields, [index.table.digits, *(one.values for one in vectors.values())]


def _unpack(message: Any, arrays: list[np.ndarray]) -> tuple[Vectors, SourceIndex]:
    vectors = {
        source: ItemVectors(values, one["key"], Provenance(**one["provenance"]), one["details"])
        for (source, one), values in zip(message["vectors"].items(), arrays[1:], strict=True)
    }
    blocks = tuple((source, levels) for source, levels in message["blocks"])
    return vectors, SourceIndex(**_parts(message["index"], arrays[0]), blocks=blocks)


def _index_fields(index: ItemIndex) -> dict[str, Any]:
    return {"sizes": index.table.sizes, "provenance": index.provenance.model_dump(), "details": index.details}


def _parts(fields: dict[str, Any], digits: np.ndarray) -> dict[str, Any]:
    """The fields of an `ItemIndex`."""
    table = CodeTable(digits, tuple(fields["sizes"]))
    return {"table": table, "provenance": Provenance(**fields["provenance"]), "details": fields["details"]}
