"""Presets that put other item codes into TIGER and LC-Rec (docs/letter.md): LETTER's under both, networks, training and
ranking as there, and P5-CID's, by recursive spectral clustering of co-occurrence, in a network over code tokens alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from baselines.lcrec import LCRec, LCRecConfig
from baselines.tiger import VARIANTS, DecoderNetworkConfig, Tiger, TigerConfig, TigerDecoderConfig
from harness.core.config_files import ReadyIndex
from harness.generative.config import PAPER, Section, SemanticConfig, with_settings
from harness.generative.recommender import Method
from harness.generative.tokenizers.base import Tokenizer
from harness.generative.tokenizers.cid import CIDConfig, CIDTokenizer
from harness.generative.tokenizers.item_graph import CollaborativeConfig, CollaborativeEmbeddings
from harness.generative.tokenizers.letter import LetterConfig, LetterTokenizer
from harness.protocol.recommender import ModelConfig

_RELEASED_INDEX: dict[str, Any] = {
    "losses": {"alignment": 0.01, "diversity": 1e-4},
    "rqvae": {
        "hidden": (2048, 1024, 512, 256, 128, 64), "epochs": 20_000, "separate": "sinkhorn", "revive": False,
    },
}  # fmt: skip
_SMOKE_INDEX: dict[str, Any] = {
    "levels": 2, "size": 8, "losses": {"clusters": 3}, "rqvae": {"hidden": (32,), "latent": 8, "epochs": 10},
}  # fmt: skip


class IndexConfig(Section, LetterConfig, ReadyIndex):
    """Text vectors and collaborative vectors to item codes."""

    kind: Literal["letter", "file"] = Field(default="letter", description="LETTER's codes; a ready index file")

    def tokenizer(self, semantic: SemanticConfig) -> Tokenizer:
        """The tokenizer that these settings describe."""
        settings = {name: getattr(self, name) for name in LetterConfig.model_fields}
        return LetterTokenizer(**settings, semantic=semantic)


class LetterTigerConfig(TigerConfig):
    """The whole of LETTER-TIGER. Variant `released` has the settings of the authors' scripts."""

    section: ClassVar[str] = "letter_tiger"

    variant: Literal["ours", "released"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="ours", description="a named bundle of settings; released: those of the authors' scripts"
    )
    index: IndexConfig = IndexConfig()  # pyright: ignore[reportIncompatibleVariableOverride]

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "ours": {},
        "released": {**VARIANTS["letter"], "index": _RELEASED_INDEX},
    }
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        **TigerConfig.profiles,
        "smoke": {**TigerConfig.profiles["smoke"], "index": _SMOKE_INDEX},
        "paper": {"variant": "released"},
    }

    def own_tokenizer(self) -> Tokenizer:
        return self.index.tokenizer(self.semantic)


class LetterTiger(Tiger):
    """LETTER-TIGER: LETTER's codes and ranking-guided loss in TIGER's encoder-decoder."""

    config_class: ClassVar[type[ModelConfig]] = LetterTigerConfig
    code_version: ClassVar[int] = 1


class LetterLCRecConfig(LCRecConfig):
    """The whole of LETTER-LC-Rec. Profile `paper` has the released script's settings: sequences alone, and LoRA."""

    section: ClassVar[str] = "letter_lcrec"

    index: IndexConfig = IndexConfig()  # pyright: ignore[reportIncompatibleVariableOverride]

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        **LCRecConfig.profiles,
        "smoke": {
            **LCRecConfig.profiles["smoke"],
            "index": {**_SMOKE_INDEX, "size": 32, "rqvae": {"hidden": (64,), "latent": 16, "epochs": 30}},
        },
        "paper": with_settings(
            PAPER,
            index=_RELEASED_INDEX,
            tasks={
                "item2index": 0.0, "index2item": 0.0, "fusionseqrec": 0.0, "itemsearch": 0.0, "preferenceobtain": 0.0,
                "templates": 1,
            },
            tuning={"epochs": 4, "adapter": True, "rank": 8, "alpha": 32, "learning_rate": 1e-4},
        ),
    }  # fmt: skip

    def own_tokenizer(self) -> Tokenizer:
        return self.index.tokenizer(self.semantic)


class LetterLCRec(LCRec):
    """LETTER-LC-Rec: LETTER's codes in LC-Rec's language model. Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = LetterLCRecConfig
    code_version: ClassVar[int] = 1


# P5-CID: the profiles of TIGER's decoder without its codes, and initial embeddings from collaborative vectors.
_DECODER = {name: {**profile, "index": {}} for name, profile in TigerDecoderConfig.profiles.items()}
_CENTROID = {"codes": "centroid"}
VECTORS = 64  # dimensions of the collaborative vectors


class CIDIndexConfig(Section, CIDConfig, ReadyIndex):
    """Training interactions to item codes."""

    kind: Literal["cid", "file"] = Field(default="cid", description="collaborative codes; a ready index file")


class P5CIDConfig(TigerConfig):
    """The whole method. Profile `paper` has the shape of T5-small and the optimiser of the authors' OpenP5."""

    section: ClassVar[str] = "p5cid"

    variant: Literal["ours"] = Field(default="ours", description="one")  # pyright: ignore[reportIncompatibleVariableOverride]
    index: CIDIndexConfig = CIDIndexConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    network: DecoderNetworkConfig = DecoderNetworkConfig()  # pyright: ignore[reportIncompatibleVariableOverride]

    variants: ClassVar[dict[str, dict[str, Any]]] = {"ours": {}}
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {**TigerDecoderConfig.profiles["smoke"], "index": {"branches": 3, "leaf": 4}},
        "cpu": with_settings(_DECODER["cpu"], network=_CENTROID, training={"epochs": 16}),
        "gpu": with_settings(_DECODER["gpu"], network=_CENTROID),
        "paper": {
            "index": {"leaf_tokens": "shared"},
            "network": {
                "kind": "t5", "layers": 6, "width": 512, "heads": 8, "head_width": 64, "inner": 2048, "dropout": 0.1,
            },
            "training": {
                "batch": 128, "epochs": 10, "learning_rate": 1e-3, "weight_decay": 0.01, "normalise": "vocabulary",
            },
            "decode": {"normalise": "vocabulary"},
        },
    }  # fmt: skip

    def own_tokenizer(self) -> Tokenizer:
        return CIDTokenizer(**self.index.model_dump(include=set(CIDConfig.model_fields)))


class P5CID(Tiger):
    """P5-CID's codes in a network over code tokens. Needs no item text."""

    config_class: ClassVar[type[ModelConfig]] = P5CIDConfig
    code_version: ClassVar[int] = 1

    def compose(self) -> Method:
        """With the vectors of the initial embeddings, where they are not random."""
        embeddings = (CollaborativeEmbeddings(CollaborativeConfig(), VECTORS),)
        return replace(super().compose(), embeddings=embeddings if self.config.network.codes == "centroid" else ())
