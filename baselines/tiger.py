"""TIGER as a preset: RQ-VAE codes of item text x an encoder-decoder x training on all prefixes; or, which departs from
the paper, x a decoder alone x training on windows.

A variant is a method (shape, codes, optimiser), a profile a budget: a setting of the profile overrides the variant's,
and the user's overrides both. Variants are the paper and the re-implementations of LETTER, GRID, RQ-VAE-Recommender
(RQVR), RecBole 3 (RB3) and cornac; `docs/tiger.md` lists the sources, and what of them is not reproduced. Where a
variant does not say otherwise: 4 + 4 layers, 6 heads of 64 dimensions, 1,024 inner ones, all prefixes with 20 items at
most.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.core.config_files import ReadyIndex
from harness.generative.config import DecodeConfig, ScoreNormalization, Section, SemanticConfig
from harness.generative.recipes import PrefixTraining, WindowTraining
from harness.generative.recommender import GenerativeRecommender, Method
from harness.generative.sequence_models import DecoderOnly, EncoderDecoder, NetworkConfig, PrefixTrainingConfig
from harness.generative.tokenizers.base import CodebookConfig, CodesOnlyConfig, RQVAETokenizer, Tokenizer
from harness.generative.tokenizers.rqvae import RQVAEConfig
from harness.protocol.recommender import ModelConfig

Variant = Literal["ours", "paper", "letter", "grid", "rqvr", "rb3", "cornac"]

_PLAIN_RQ: dict[str, Any] = {"sinkhorn": 0.0, "separate": "none", "revive": False}
_WHOLE = {"normalise": "vocabulary"}
_LEVEL = {"normalise": "level"}
_PRODUCT_TEXT = {"fields": ("title", "brand", "categories")}
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "paper": {
        "user_tokens": 2000, "semantic": _PRODUCT_TEXT,
        "index": {"levels": 3, "size": 256, "distinct": "token", "rqvae": {**_PLAIN_RQ, "epochs": 20_000}},
        "training": {
            "batch": 256, "optimiser": "adafactor", "learning_rate": 0.01, "weight_decay": 0.0,
            "schedule": "inverse_sqrt", "warmup_steps": 10_000, "max_steps": 200_000, "epochs": 100_000, **_WHOLE,
        },
        "decode": _WHOLE,
    },
    "letter": {
        "index": {
            "levels": 4, "size": 256, "distinct": "none",
            "rqvae": {
                "hidden": (2048, 1024, 512, 256, 128, 64), "sinkhorn": 0.003, "separate": "sinkhorn", "revive": False,
                "epochs": 20_000,
            },
        },
        "training": {
            "batch": 256, "accumulate": 4, "learning_rate": 5e-4, "weight_decay": 0.01, "warmup": 0.01, "epochs": 200,
            "every": 1, "patience": 20, **_WHOLE,
        },
        "decode": {"beams": 20, **_WHOLE},
    },
    "grid": {
        "index": {
            "levels": 3, "size": 256, "distinct": "token",
            "rqvae": {**_PLAIN_RQ, "hidden": (256, 128), "latent": 64, "epochs": 300},
        },
        "network": {"dropout": 0.15, "separator": True, "tied": False, "inner_layers": 2},
        "training": {
            "optimiser": "adam", "batch": 512, "accumulate": 16, "learning_rate": 1e-3, "weight_decay": 1e-4,
            "schedule": "constant", "max_steps": 320_000, "epochs": 10, "every": 1, "patience": 10, **_LEVEL,
        },
        "decode": {"beams": 10, **_LEVEL},
    },
    "rqvr": {
        "semantic": _PRODUCT_TEXT,
        "index": {"levels": 3, "size": 256, "distinct": "none", "rqvae": {**_PLAIN_RQ, "batch": 640, "epochs": 20_000}},
        "network": {"width": 384, "separator": True, "tied": False},
        "training": {
            "batch": 640, "learning_rate": 1e-3, "weight_decay": 1e-4, "schedule": "inverse_sqrt",
            "warmup_steps": 10_000, "max_steps": 10_000, "epochs": 100_000, **_LEVEL,
        },
        "decode": {"beams": 64, **_LEVEL},
    },
    "rb3": {
        "user_tokens": 1,
        "index": {
            "levels": 4, "size": 512, "distinct": "token",
            "rqvae": {**_PLAIN_RQ, "hidden": (2048, 1024, 512, 256), "latent": 128, "epochs": 100},
        },
        "training": {
            "batch": 256, "learning_rate": 3e-3, "weight_decay": 0.05, "schedule": "constant", "epochs": 150,
            "every": 1, "patience": 20, **_WHOLE,
        },
        "decode": {"beams": 50, **_WHOLE},
    },
    "cornac": {
        "index": {"levels": 3, "size": 256, "distinct": "token", "rqvae": _PLAIN_RQ},
        "network": {"layers": 6, "dropout": 0.2},
        "training": {
            "batch": 64, "learning_rate": 3e-4, "weight_decay": 0.035, "schedule": "cosine", "warmup_steps": 10_000,
            "epochs": 100, "every": 1, "patience": 20, **_WHOLE,
        },
        "decode": _WHOLE,
    },
}  # fmt: skip


class RQConfig(RQVAEConfig):
    """Without the uniform mapping and the rounds of LC-Rec: a token tells items of equal codes apart."""

    sinkhorn: float = Field(default=0.0, ge=0, description="entropy of the last level's uniform mapping; 0: none")
    separate: Literal["assignment", "sinkhorn", "none"] = "none"


class IndexConfig(Section, CodebookConfig, ReadyIndex):
    """Item vectors to item codes."""

    kind: Literal["rqvae", "file"] = Field(default="rqvae", description="RQ-VAE codes of text; a ready index file")
    levels: int = Field(default=3, ge=1, le=8, description="codebooks")
    distinct: Literal["token", "none"] = Field(
        default="token", description="token: one more token numbers the items that share a code; none: they share it"
    )
    rqvae: RQConfig = RQConfig()


class TigerDecodeConfig(DecodeConfig):
    """Ranking, scored as in training."""

    normalise: ScoreNormalization = Field(
        default="children", description="what a token's probability is among: as `training.normalise`"
    )


class TigerConfig(CodesOnlyConfig):
    """The whole method. Defaults are the paper's shape and codes with an optimiser that small data can bear, and a
    token's probability among the tokens that lead on to a real code."""

    section: ClassVar[str] = "tiger"

    variant: Variant = Field(default="ours", description="a named bundle of settings (docs/tiger.md)")
    user_tokens: int = Field(default=0, ge=0, description="users are hashed to so many tokens; 0: none")
    semantic: SemanticConfig = SemanticConfig()
    index: IndexConfig = IndexConfig()
    network: NetworkConfig = NetworkConfig()
    training: PrefixTrainingConfig = PrefixTrainingConfig()
    decode: TigerDecodeConfig = TigerDecodeConfig()

    variants: ClassVar[dict[str, dict[str, Any]]] = VARIANTS
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "index": {"levels": 2, "size": 8, "rqvae": {"hidden": (32,), "latent": 8, "epochs": 10}},
            "network": {"layers": 1, "width": 32, "heads": 2, "head_width": 16, "inner": 128, "dropout": 0.0},
            "training": {
                "batch": 32, "epochs": 100, "max_steps": 350, "learning_rate": 3e-3, "weight_decay": 0.0,
                "validation_users": 200, "precision": "float32", "patience": 2,
            },
        },
        "cpu": {
            "index": {"rqvae": {"epochs": 200}},
            "network": {"layers": 2, "width": 64},
            "training": {"epochs": 20, "item_targets": 600, "patience": 5, "validation_users": 5000},
            "decode": {"filter_viewed": "auto"},
        },
        "gpu": {"index": {"rqvae": {"epochs": 1000}}},
        "paper": {"variant": "paper"},
    }  # fmt: skip

    @model_validator(mode="after")
    def _histories_are_items(self) -> TigerConfig:
        if self.user_tokens and self.decode.filter_viewed:
            raise ValueError("decode.filter_viewed needs user_tokens=0: a user token stands in the history")
        return self

    @model_validator(mode="after")
    def _one_normalisation(self) -> TigerConfig:
        if self.training.normalise != self.decode.normalise:
            raise ValueError(
                f"training.normalise={self.training.normalise} and decode.normalise={self.decode.normalise}: training "
                "and decoding have to score by the same rule"
            )
        return self

    @model_validator(mode="after")
    def _settings_of_the_network(self) -> TigerConfig:
        network = self.network
        if network.kind == "decoder":
            settings = {"user_tokens": self.user_tokens, "network.separator": network.separator}
            settings |= {"network.tied": not network.tied, "network.inner_layers": network.inner_layers > 1}
            if names := [name for name, is_set in settings.items() if is_set]:
                raise ValueError(f"{names[0]} is for network.kind=t5, not for a decoder")
            if network.head_width % 2:
                raise ValueError("network.head_width must be even for network.kind=decoder: positions are rotary")
        return self

    def own_tokenizer(self) -> Tokenizer:
        index = self.index
        return RQVAETokenizer(
            levels=index.levels,
            size=index.size,
            distinct=index.distinct,
            stream="tiger rqvae",
            rqvae=index.rqvae,
            semantic=self.semantic,
        )


class Tiger(GenerativeRecommender[TigerConfig]):
    """TIGER (arXiv 2305.05065). Needs item text, or ready codes."""

    config_class: ClassVar[type[ModelConfig]] = TigerConfig
    code_version: ClassVar[int] = 3

    def compose(self) -> Method:
        config = self.config
        tokenizer, training = config.item_tokenizer(), config.training
        if config.network.kind == "decoder":
            decoder = DecoderOnly(config.network, training.precision)
            return Method(tokenizer, decoder, WindowTraining(decoder, training, "tiger"), config.decode)
        model = EncoderDecoder(config.network, config.user_tokens, training.precision)
        return Method(tokenizer, model, PrefixTraining(model, training, "tiger"), config.decode)

    def record(self) -> dict[str, Any]:
        """With `network`, the kind of network."""
        return {**super().record(), "network": self.config.network.kind}


class DecoderNetworkConfig(NetworkConfig):
    """The decoder."""

    kind: Literal["t5", "decoder"] = Field(default="decoder", description="as in `tiger`")
    layers: int = Field(default=2, ge=1)
    width: int = Field(default=256, ge=1)
    heads: int = Field(default=8, ge=1)
    head_width: int = Field(default=32, ge=1, description="an even number")
    inner: int = Field(default=512, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="on embeddings, residual branches and last states")


_STEPS: dict[str, Any] = {"batch": 160, "learning_rate": 1.5e-3, "patience": 8}


class TigerDecoderConfig(TigerConfig):
    """TIGER's codes in a decoder alone."""

    network: DecoderNetworkConfig = DecoderNetworkConfig()  # pyright: ignore[reportIncompatibleVariableOverride]

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "index": TigerConfig.profiles["smoke"]["index"],
            "network": {**TigerConfig.profiles["smoke"]["network"], "inner": 64},
            "training": {
                "batch": 64, "epochs": 100, "max_steps": 300, "learning_rate": 1e-2, "validation_users": 200,
                "precision": "float32", "patience": 2,
            },
        },
        "cpu": {
            "index": {"rqvae": {"epochs": 200}},
            "training": {**_STEPS, "epochs": 40, "item_targets": 600, "validation_users": 5000, "average": 0.998},
            "decode": {"filter_viewed": "auto"},
        },
        "gpu": {**TigerConfig.profiles["gpu"], "training": _STEPS},
    }  # fmt: skip


class TigerDecoder(Tiger):
    """TIGER's codes, loss and search with a causal transformer over whole windows in place of the encoder-decoder."""

    config_class: ClassVar[type[ModelConfig]] = TigerDecoderConfig
