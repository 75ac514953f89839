"""Compares our logits with transformers' own forward pass, over backbones of many families, minute and drawn at random.

    python -m benchmarks.backbones [--json] [FAMILY ...]

prints a table: what each family's head does, whether sequences may share a row, the largest absolute difference of text
logits beside the largest logit, what the head's matrix alone would be wrong by, and the largest difference of all
logits of the exported folder (`harness export`) from ours. Ends 1 where a difference is above 1e-3.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from harness.errors import InputError
from harness.generative.exporting import export
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import load_backbone
from harness.generative.models.decoder_lm import CodeLM, code_tokenizer
from harness.generative.models.packing import can_pack
from harness.protocol.context import RunContext
from tests.generative.families import FAMILIES, REFUSED, saved
from tests.generative.toy_models import table

ALLOWED = 1e-3
CODES: CodeTable = table()
COLUMNS = ("family", "head", "embedding", "packed", "largest", "difference", "matrix alone", "exported")


@torch.no_grad()
def compared(kind: str, folder: Path) -> dict[str, Any]:
    """One row of the table; the reason, where the family is refused."""
    from transformers import AutoModelForCausalLM

    theirs, context = saved(kind, folder / kind), RunContext(1, folder)
    try:
        backbone = load_backbone(str(folder / kind), None, "pretrained", context)
    except InputError as error:
        return {"family": kind, "refused": error.what.partition("supported: ")[2]}
    ours, head = CodeLM(backbone, CODES.sizes).eval(), backbone.shape
    text = torch.randint(1, 250, (2, 24), generator=torch.Generator().manual_seed(1))
    wanted, states = theirs(input_ids=text).logits, ours.states(text)
    export(ours, code_tokenizer(backbone, CODES.tokens), folder / "out" / kind, {}, is_apart=False)
    plain = AutoModelForCausalLM.from_pretrained(folder / "out" / kind).eval()
    first, codes = len(backbone.tokenizer), len(CODES.tokens)
    whole = ours.vocabulary_logits(states)
    whole = torch.cat([whole[..., :first], whole[..., -codes:], whole[..., first:-codes]], dim=-1)
    said = [f"x {head.scale:.4g}"] * (head.scale != 1) + ["+ bias"] * (head.bias is not None)
    said += [f"cap {head.cap:g}"] if head.cap else []
    return {
        "family": kind,
        "head": " ".join(said) or "matrix",
        "embedding": f"x {ours.embedding_scale:.4g}",
        "packed": can_pack(ours),
        "largest": float(wanted.abs().max()),
        "difference": float((ours.text_logits(states) - wanted).abs().max()),
        "matrix alone": float((states @ ours.text_head.T - wanted).abs().max()),
        "exported": float((plain(input_ids=text).logits - whole).abs().max()),
    }


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", default=[*FAMILIES, *REFUSED])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = [compared(kind, Path(folder)) for kind in given.families]
    if given.json:
        print(json.dumps(rows, indent=1))
    else:
        print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
        for row in rows:
            cells = [row["family"], f"refused: {row['refused']}"] if "refused" in row else [row[key] for key in COLUMNS]
            print("| " + " | ".join(f"{cell:.2g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")
    return int(any(max(row["difference"], row["exported"]) > ALLOWED for row in rows if "refused" not in row))


if __name__ == "__main__":
    sys.exit(main())
