"""What the profiles of instruction-tuned recommenders have in common, so that methods compared in one profile differ in
what is theirs alone. A profile is settings by section; a method adds its own sections.
"""

from __future__ import annotations

from typing import Any

# Text steps cost more than sequence steps: where time is short, few of them and short histories of titles.
_LIGHT: dict[str, Any] = {"fusionseqrec": 0.01, "itemsearch": 0.015, "preferenceobtain": 0.01, "titles": 6}

SMOKE: dict[str, Any] = {
    "backbone": {"name": "tiny-random"},
    "tasks": {"templates": 1, "item2index": 0.04, "index2item": 0.04, **_LIGHT},
    "tuning": {
        "max_steps": 200,
        "epochs": 100,
        "targets": 48,
        "rows": 8,
        "learning_rate": 7e-3,
        "code_rate": 2e-2,
    },
    "comprehension": {"items": 12},
}
CPU: dict[str, Any] = {
    "backbone": {"layers": 2, "dropout": 0.2},
    "tasks": {"templates": 1, "item2index": 0.025, "index2item": 0.015, **_LIGHT},
    "tuning": {
        "max_steps": 1700,
        "epochs": 100,
        "targets": 160,
        "rows": 24,
        "learning_rate": 1e-3,
        "code_rate": 3e-3,
        "warmup": 0.05,
        "floor": 0.1,
    },
    "comprehension": {"items": 100},
}

# The papers' scripts, which EAGER-LLM has from LC-Rec: LLaMA-7B, 128 next items a step, transformers' AdamW.
LLAMA = "huggyllama/llama-7b"
PAPER_STAGE: dict[str, Any] = {
    "targets": 128, "learning_rate": 5e-5, "code_rate": 5e-5, "weight_decay": 0.01, "beta2": 0.999,
    "clip": 1.0, "warmup": 0.01, "floor": 0.0, "normalise": "vocabulary",
}  # fmt: skip
PAPER: dict[str, Any] = {
    "semantic": {"encoder": LLAMA, "pooling": "mean", "normalise": False, "max_tokens": 2048},
    "backbone": {
        "name": LLAMA, "codes": "random", "vocabulary": "trained", "precision": "bfloat16", "checkpointing": True,
    },
    "tasks": {
        "mixing": "samples", "item2index": 1.0, "index2item": 1.0, "fusionseqrec": 1.0, "itemsearch": 1.0,
        "preferenceobtain": 1.0, "window": 21, "held_out": 0.0, "text_tokens": 512, "title_tokens": 64,
    },
    "tuning": {"rows": 128, **PAPER_STAGE},
    "decode": {"beams": 20, "batch": 4, "normalise": "vocabulary"},
}  # fmt: skip


def with_settings(profile: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """A profile with some settings of its sections added or changed.

    >>> with_settings({"tuning": {"epochs": 3}}, tuning={"rows": 8}, index={"k": 4})
    {'tuning': {'epochs': 3, 'rows': 8}, 'index': {'k': 4}}
    """
    return profile | {name: {**profile.get(name, {}), **settings} for name, settings in sections.items()}
