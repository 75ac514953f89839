"""Profile `paper`: the hyper-parameters of the authors' scripts, for LLaMA-7B, in the clean form of the method.

Each value is one of the released scripts' (run_finetune.sh, run_anneal.sh, kmeans.py, din_train.py, run_test_ddp.sh) or
of the libraries' defaults that they leave alone. What a script does wrong (validation items as labels, positives among
the negatives, a constraint by position) is not among them: that has switches of its own. Intentions, which they have
Mistral-7B write, come from the rule of `eager/intentions.py`, or from a file (`eager.tasks.intentions`).
"""

from __future__ import annotations

from typing import Any

LLAMA = "huggyllama/llama-7b"
_BATCH = 128  # 16 samples x 4 GPUs x accumulation 2; a sample there is one next item here
_ADAMW = {
    "learning_rate": 5e-5, "code_rate": 5e-5, "weight_decay": 0.01, "beta2": 0.999, "clip": 1.0, "warmup": 0.01,
    "floor": 0.0, "normalise": "vocabulary",
}  # fmt: skip
PAPER: dict[str, Any] = {
    "semantic": {
        "encoder": LLAMA, "fields": ("title", "description", "categories"), "pooling": "mean", "normalise": False,
        "max_tokens": 2048,
    },
    "behavior": {
        "encoder": "din", "dim": 1024, "negatives": 60, "batch": 256, "learning_rate": 1e-3, "dropout": 0.1,
        "weight_decay": 0.0,
    },
    "index": {"kind": "tree", "sources": ("semantic", "behavior"), "k": 256, "height": 2, "order": "released"},
    "backbone": {
        "name": LLAMA, "codes": "random", "vocabulary": "trained", "precision": "bfloat16", "checkpointing": True,
    },
    "tasks": {
        "mixing": "samples", "item2index": 1.0, "index2item": 1.0, "fusionseqrec": 1.0, "itemsearch": 1.0,
        "preferenceobtain": 1.0, "caps": {"fusionseqrec": 100_000}, "window": 21, "held_out": 0.0,
        "text_tokens": 512, "title_tokens": 64,
    },
    "contrast": {"semantic": 0.1, "behavior": 0.1, "temperature": 0.1, "negatives": 2048},
    "tuning": {"epochs": 3, "targets": _BATCH, "rows": _BATCH, **_ADAMW},
    "annealing": {"epochs": 1, "targets": _BATCH, **_ADAMW, "rank": 8, "alpha": 32, "dropout": 0.05},
    "decode": {"beams": 20, "batch": 4, "normalise": "vocabulary"},
}  # fmt: skip
