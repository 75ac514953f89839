"""Item embeddings and codes: made by the first process, sent to all."""

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
    """Vectors of sources and the item codes, made by the first process."""
    return compute_on_main(context.world, lambda: make(replace(context, world=SINGLE_PROCESS)), _pack, _unpack)


def _pack(vectorses: tuple[Vectors, SourceIndex]) -> tuple[Any, list[np.ndarray]]:
    vectors, index = vectorses
    sources = {
        source: {"key": one.key, "provenance": one.provenance.model_dump(), "details": one.details}
        for source, one in vectors.items()
    }
    fields = {"vectors": sources, "index": _told(index), "blocks": index.blocks}
    return fields, [index.table.digits, *(one.values for one in vectors.values())]


def _unpack(message: Any, arrays: list[np.ndarray]) -> tuple[Vectors, SourceIndex]:
    vectors = {
        source: ItemVectors(values, one["key"], Provenance(**one["provenance"]), one["details"])
        for (source, one), values in zip(message["vectors"].items(), arrays[1:], strict=True)
    }
    blocks = tuple((source, levels) for source, levels in message["blocks"])
    return vectors, SourceIndex(**_parts(message["index"], arrays[0]), blocks=blocks)


def _told(index: ItemIndex) -> dict[str, Any]:
    return {"sizes": index.table.sizes, "provenance": index.provenance.model_dump(), "details": index.details}


def _parts(fields: dict[str, Any], digits: np.ndarray) -> dict[str, Any]:
    """What an `ItemIndex` is made of."""
    table = CodeTable(digits, tuple(fields["sizes"]))
    return {"table": table, "provenance": Provenance(**fields["provenance"]), "details": fields["details"]}
