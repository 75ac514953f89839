"""TIGER as a preset: RQ-VAE codes of item text x an encoder-decoder x training on all prefixes.

A variant is a method (shape, codes, optimiser), a profile a budget: a setting of the profile overrides the variant's,
and the user's overrides both.

The variants are TIGER as others build it: the paper, and the re-implementations of LETTER, GRID, RQ-VAE-Recommender
(RQVR) and RecBole 3 (RB3). `docs/tiger.md` lists the sources, and what of them is not reproduced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.core.config_files import ReadyIndex, UserFile
from harness.generative.config import DecodeConfig, Section, SemanticConfig
from harness.generative.encoder_decoder_config import NetworkConfig, PrefixTrainingConfig
from harness.generative.recipes import PrefixTraining
from harness.generative.recommender import GenerativeRecommender, Method
from harness.generative.sequence_models import EncoderDecoder, resolve_precision
from harness.generative.tokenizers.base import (
    AnyTokenizer,
    FileTokenizer,
    RQVAETokenizer,
    Tokenizer,
    tokenizer_field,
    tokenizer_seed_field,
)
from harness.generative.tokenizers.rqvae import RQVAEConfig
from harness.protocol.recommender import ModelConfig, TextModelConfig
from harness.protocol.split import TrainingData

Variant = Literal["ours", "paper", "letter", "grid", "rqvr", "rb3"]

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


class TigerConfig(TextModelConfig):
    """The whole method. Defaults are the paper's shape and codes with an optimiser that small data can bear."""

    variant: Variant = Field(default="ours", description="a named bundle of settings (docs/tiger.md)")
    user_tokens: int = Field(default=0, ge=0, description="users are hashed to so many tokens; 0: none")
    semantic: SemanticConfig = SemanticConfig()
    index: IndexConfig = IndexConfig()
    tokenizer: AnyTokenizer | None = tokenizer_field()
    tokenizer_seed: int | None = tokenizer_seed_field()
    network: NetworkConfig = NetworkConfig()
    training: PrefixTrainingConfig = PrefixTrainingConfig()
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

    @model_validator(mode="after")
    def _histories_are_items(self) -> TigerConfig:
        if self.user_tokens and self.decode.filter_viewed:
            raise ValueError("decode.filter_viewed needs user_tokens=0: a user token stands in the history")
        return self

    def resolved(self, device: str) -> TigerConfig:
        """With the precision that `auto` stands for on this machine."""
        training = self.training.model_copy(update={"precision": resolve_precision(self.training.precision, device)})
        return self.model_copy(update={"training": training})

    def item_tokenizer(self) -> Tokenizer:
        """The tokenizer that makes the item codes."""
        index = self.index
        if self.tokenizer is not None:
            return self.tokenizer.completed(self)
        if index.kind == "file":
            return FileTokenizer(file=index.file, setting="tiger.index.file")
        return RQVAETokenizer(
            levels=index.levels,
            size=index.size,
            distinct=index.distinct,
            stream="tiger rqvae",
            rqvae=index.rqvae,
            semantic=self.semantic,
        )

    def reads_text(self) -> bool:
        """Not where codes, or the vectors that they are made of, are ready."""
        return self.item_tokenizer().reads_text()

    def leaks(self) -> tuple[str, ...]:
        """Those of the tokenizer."""
        return self.item_tokenizer().leaks()

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """Ready vectors and a ready index, where they are used."""
        return self.item_tokenizer().files(data)


def _over(low: Any, high: Any) -> Any:
    """`high` above `low`, section by section."""
    if not isinstance(low, dict) or not isinstance(high, dict):
        return low if high is None else high
    return {key: _over(low.get(key), high.get(key)) for key in {*low, *high}}


class Tiger(GenerativeRecommender[TigerConfig]):
    """TIGER (arXiv 2305.05065). Needs item text, or ready codes."""

    config_class: ClassVar[type[ModelConfig]] = TigerConfig
    code_version: ClassVar[int] = 2

    def compose(self) -> Method:
        config = self.config
        model = EncoderDecoder(config.network, config.user_tokens, config.training.precision)
        return Method(config.item_tokenizer(), model, PrefixTraining(model, config.training, "tiger"), config.decode)
