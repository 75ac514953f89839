"""TIGER's configuration: one frozen value, a section a component, what each profile and each variant changes.

A variant is a method (shape, codes, optimiser), a profile a budget: where both speak of a setting, the profile's word
stands, and the user's above both.

TIGER as others build it: the paper, and the re-implementations of LETTER, GRID, RQ-VAE-Recommender (RQVR) and
RecBole 3 (RB3), as settings of ours. `docs/tiger.md` says where they come from, and what of them is not reproduced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.config_files import ReadyIndex, UserFile
from harness.generative.config import ScoreNormalization, SemanticConfig, given_files
from harness.generative.tokenizers.index import index_file
from harness.generative.tokenizers.rqvae import RQVAEConfig
from harness.protocol.recommender import TextModelConfig
from harness.protocol.split import TrainingData

# Without a word on it: 4 + 4 layers, 6 heads of 64 dimensions, 1,024 inner ones, all prefixes with 20 items at most.
_PLAIN_RQ: dict[str, Any] = {"sinkhorn": 0.0, "separate": "none", "revive": False}


_WHOLE = {"normalise": "vocabulary"}


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
        "network": {"dropout": 0.15, "separator": True},
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
            **_WHOLE,
        },
        "decode": {"beams": 10, **_WHOLE},
    },
    "rqvr": {
        "semantic": _PRODUCT_TEXT,
        "index": {
            "levels": 3,
            "size": 256,
            "distinct": "none",
            "rqvae": {**_PLAIN_RQ, "batch": 640, "epochs": 20_000},
        },
        "network": {"width": 384},
        "training": {
            "batch": 640,
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "schedule": "inverse_sqrt",
            "warmup_steps": 10_000,
            "max_steps": 10_000,
            "epochs": 100_000,
            **_WHOLE,
        },
        "decode": {"beams": 64, **_WHOLE},
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
}


FILE = "tiger.index.file"


Variant = Literal["ours", "paper", "letter", "grid", "rqvr", "rb3"]


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RQConfig(RQVAEConfig):
    """Without the uniform mapping and the rounds of LC-Rec: a token tells items of equal codes apart."""

    sinkhorn: float = Field(default=0.0, ge=0, description="entropy of the last level's uniform mapping; 0: none")
    separate: Literal["assignment", "sinkhorn", "none"] = "none"


class IndexConfig(Section, ReadyIndex):
    """Item vectors to item codes."""

    kind: Literal["rqvae", "file"] = Field(default="rqvae", description="RQ-VAE codes of text; a ready index file")
    levels: int = Field(default=3, ge=1, le=8, description="codebooks")
    size: int = Field(default=256, ge=2, description="codes of a codebook")
    distinct: Literal["token", "none"] = Field(
        default="token", description="token: one more token numbers the items that share a code; none: they share it"
    )
    file: UserFile | None = Field(
        default=None, description="kind=file: the index file; null: NAME.index.json in the data set's folder"
    )
    rqvae: RQConfig = RQConfig()


class NetworkConfig(Section):
    """The encoder-decoder, drawn from scratch."""

    layers: int = Field(default=4, ge=1, description="of the encoder, and of the decoder")
    width: int = Field(default=128, ge=1)
    heads: int = Field(default=6, ge=1)
    head_width: int = Field(default=64, ge=1)
    inner: int = Field(default=1024, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    separator: bool = Field(default=False, description="a token behind each item of a history")


class TrainingConfig(Section):
    """Every prefix of a training sequence is a sample."""

    batch: int = Field(default=64, ge=1, description="samples of a step (of each part of it)")
    accumulate: int = Field(default=1, ge=1, description="parts that a step is computed in")
    epochs: int = Field(default=200, ge=1, description="passes over all samples, at most")
    max_steps: int | None = Field(default=None, ge=1, description="an upper bound on optimiser steps; null: none")
    optimiser: Literal["adamw", "adam", "adafactor"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0, description="the peak")
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, le=1, description="share of the steps")
    warmup_steps: int | None = Field(default=None, ge=1, description="instead of a share")
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0)
    normalise: Literal["level", "vocabulary"] = Field(
        default="level", description="a token's probability is among its level's, or all tokens' with an end behind"
    )
    choose: Literal["validation", "last"] = Field(
        default="validation", description="which state is taken: the best by ndcg@10 on validation, or the last"
    )
    every: float = Field(default=2, gt=0, description="passes between two looks at validation; four looks at least")
    patience: int = Field(default=10, ge=1, description="looks without a better one that end the training")
    validation_users: int = Field(default=2000, ge=1, description="at most so many are asked at a look")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where it is native"
    )


class DecodeConfig(Section):
    """Ranking, by the shared search along the trie of codes."""

    beams: int = Field(default=20, ge=1, description="prefixes kept a level, at least as many as items are asked")
    batch: int = Field(default=64, ge=1, description="users decoded at once; less where memory gives out")
    normalise: ScoreNormalization = Field(
        default="level", description="as for training; children: among those in the trie"
    )


class TigerConfig(TextModelConfig):
    """The whole method. Defaults are the paper's shape and codes with an optimiser that small data can bear."""

    variant: Variant = Field(default="ours", description="a named bundle of settings (docs/tiger.md)")
    user_tokens: int = Field(default=0, ge=0, description="users are hashed to so many tokens; 0: none")
    semantic: SemanticConfig = SemanticConfig()
    index: IndexConfig = IndexConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    decode: DecodeConfig = DecodeConfig()

    variants: ClassVar[dict[str, dict[str, Any]]] = VARIANTS
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "index": {"levels": 2, "size": 8, "rqvae": {"hidden": (32,), "latent": 8, "epochs": 10}},
            "network": {"layers": 1, "width": 32, "heads": 2, "head_width": 16, "inner": 128, "dropout": 0.0},
            "training": {
                "batch": 32,
                "epochs": 100,
                "max_steps": 350,
                "learning_rate": 3e-3,
                "weight_decay": 0.0,
                "validation_users": 200,
                "precision": "float32",
            },
        },
        "cpu": {
            "index": {"rqvae": {"epochs": 200}},
            "training": {"max_steps": 3000, "patience": 4, "validation_users": 1000},
        },
        "gpu": {"index": {"rqvae": {"epochs": 1000}}},
        "paper": {"variant": "paper"},
    }

    @classmethod
    def of(cls, variant: Variant, **settings: Any) -> TigerConfig:
        """A variant, with sections of settings above it, as `--set tiger.variant` makes one."""
        bundle = VARIANTS[variant]
        merged = {name: _over(bundle.get(name), settings.get(name)) for name in {*bundle, *settings}}
        return cls.model_validate({"variant": variant, **merged})

    def resolved(self, device: str) -> TigerConfig:
        """With the precision that `auto` stands for on this machine."""
        if self.training.precision != "auto":
            return self
        from harness.generative.models.precision import best_precision

        training = self.training.model_copy(update={"precision": best_precision(device)})
        return self.model_copy(update={"training": training})

    def reads_text(self) -> bool:
        """Not where codes, or the vectors that they are made of, are ready."""
        return self.index.kind == "rqvae" and self.semantic.vectors is None

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """Ready vectors and a ready index, where they are used."""
        if self.index.kind == "file":
            return (index_file(self.index.file, data, FILE),)
        return given_files(self.semantic.vectors, data, self.semantic.vectors_rows)


def _over(low: Any, high: Any) -> Any:
    """`high` above `low`, section by section."""
    if not isinstance(low, dict) or not isinstance(high, dict):
        return low if high is None else high
    return {key: _over(low.get(key), high.get(key)) for key in {*low, *high}}
