"""Profile `paper`: the hyper-parameters of the authors' scripts, for LLaMA-7B, in the clean form of the method.

Each value is one of the released scripts' (run_finetune.sh, run_anneal.sh, kmeans.py, din_train.py, run_test_ddp.sh) or
of the libraries' defaults that they leave alone. What a script does wrong (validation items as labels, positives among
the negatives, a constraint by position) is not among them: that has switches of its own. Intentions, which they have
Mistral-7B write, come from a rule (docs/method.md, section 4), or from a file (`eager.tasks.intentions`).
"""

from __future__ import annotations

from typing import Any

from harness.generative import profiles

PAPER: dict[str, Any] = profiles.with_settings(
    profiles.PAPER,
    semantic={"fields": ("title", "description", "categories")},
    behavior={
        "encoder": "din", "dim": 1024, "negatives": 60, "batch": 256, "learning_rate": 1e-3, "dropout": 0.1,
        "weight_decay": 0.0,
    },
    index={"kind": "tree", "sources": ("semantic", "behavior"), "k": 256, "height": 2, "order": "released"},
    tasks={"caps": {"fusionseqrec": 100_000}},
    contrast={"semantic": 0.1, "behavior": 0.1, "temperature": 0.1, "negatives": 2048},
    tuning={"epochs": 3},
    annealing={"epochs": 1, **profiles.PAPER_STAGE, "rank": 8, "alpha": 32, "dropout": 0.05},
)  # fmt: skip
