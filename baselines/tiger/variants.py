"""TIGER as others build it, in settings: the paper, and the re-implementations of LETTER, GRID, RQ-VAE-Recommender
(RQVR), RecBole 3 (RB3) and cornac. `docs/tiger.md` lists the sources, and what of them is not reproduced.

Where a variant does not say otherwise: 4 + 4 layers, 6 heads of 64 dimensions, 1,024 inner ones, all prefixes with 20
items at most.
"""

from __future__ import annotations

from typing import Any, Literal

Variant = Literal["ours", "paper", "letter", "grid", "rqvr", "rb3", "cornac"]

_PLAIN_RQ: dict[str, Any] = {"sinkhorn": 0.0, "separate": "none", "revive": False}


_WHOLE = {"normalise": "vocabulary"}


_LEVEL = {"normalise": "level"}


_PRODUCT_TEXT = {"fields": ("title", "brand", "categories")}


VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "paper": {
        "user_tokens": 2000,
        "semantic": _PRODUCT_TEXT,
        "index": {"levels": 3, "size": 256, "distinct": "token", "rqvae": {**_PLAIN_RQ, "epochs": 20_000}},
        "training": {
            "batch": 256,
            "optimiser": "adafactor",
            "learning_rate": 0.01,
            "weight_decay": 0.0,
            "schedule": "inverse_sqrt",
            "warmup_steps": 10_000,
            "max_steps": 200_000,
            "epochs": 100_000,
            **_WHOLE,
        },
        "decode": _WHOLE,
    },
    "letter": {
        "index": {
            "levels": 4,
            "size": 256,
            "distinct": "none",
            "rqvae": {
                "hidden": (2048, 1024, 512, 256, 128, 64),
                "sinkhorn": 0.003,
                "separate": "sinkhorn",
                "revive": False,
                "epochs": 20_000,
            },
        },
        "training": {
            "batch": 256,
            "accumulate": 4,
            "learning_rate": 5e-4,
            "weight_decay": 0.01,
            "warmup": 0.01,
            "epochs": 200,
            "every": 1,
            "patience": 20,
            **_WHOLE,
        },
        "decode": {"beams": 20, **_WHOLE},
    },
    "grid": {
        "index": {
            "levels": 3,
            "size": 256,
            "distinct": "token",
            "rqvae": {**_PLAIN_RQ, "hidden": (256, 128), "latent": 64, "epochs": 300},
        },
        "network": {"dropout": 0.15, "separator": True, "tied": False, "inner_layers": 2},
        "training": {
            "optimiser": "adam",
            "batch": 512,
            "accumulate": 16,
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "schedule": "constant",
            "max_steps": 320_000,
            "epochs": 10,
            "every": 1,
            "patience": 10,
            **_LEVEL,
        },
        "decode": {"beams": 10, **_LEVEL},
    },
    "rqvr": {
        "semantic": _PRODUCT_TEXT,
        "index": {
            "levels": 3,
            "size": 256,
            "distinct": "none",
            "rqvae": {**_PLAIN_RQ, "batch": 640, "epochs": 20_000},
        },
        "network": {"width": 384, "separator": True, "tied": False},
        "training": {
            "batch": 640,
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "schedule": "inverse_sqrt",
            "warmup_steps": 10_000,
            "max_steps": 10_000,
            "epochs": 100_000,
            **_LEVEL,
        },
        "decode": {"beams": 64, **_LEVEL},
    },
    "rb3": {
        "user_tokens": 1,
        "index": {
            "levels": 4,
            "size": 512,
            "distinct": "token",
            "rqvae": {**_PLAIN_RQ, "hidden": (2048, 1024, 512, 256), "latent": 128, "epochs": 100},
        },
        "training": {
            "batch": 256,
            "learning_rate": 3e-3,
            "weight_decay": 0.05,
            "schedule": "constant",
            "epochs": 150,
            "every": 1,
            "patience": 20,
            **_WHOLE,
        },
        "decode": {"beams": 50, **_WHOLE},
    },
    "cornac": {
        "index": {"levels": 3, "size": 256, "distinct": "token", "rqvae": _PLAIN_RQ},
        "network": {"layers": 6, "dropout": 0.2},
        "training": {
            "batch": 64,
            "learning_rate": 3e-4,
            "weight_decay": 0.035,
            "schedule": "cosine",
            "warmup_steps": 10_000,
            "epochs": 100,
            "every": 1,
            "patience": 20,
            **_WHOLE,
        },
        "decode": _WHOLE,
    },
}
