"""P5-CID as a preset: codes by recursive spectral clustering of co-occurrence x a network over code tokens.

P5 is a pretrained T5-small that reads text prompts with user ids. Here a causal transformer over the codes alone, or
with `network.kind=t5` an encoder-decoder, is trained from random initial weights (docs/letter.md).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from baselines.tiger import DecoderNetworkConfig, Tiger, TigerConfig, TigerDecoderConfig
from harness.core.config_files import ReadyIndex
from harness.generative.config import Section
from harness.generative.tokenizers.base import Tokenizer
from harness.generative.tokenizers.cid import DENSE, Assignment, CIDTokenizer
from harness.protocol.recommender import ModelConfig


class IndexConfig(Section, ReadyIndex):
    """Training interactions to item codes."""

    kind: Literal["cid", "file"] = Field(default="cid", description="collaborative codes; a ready index file")
    branches: int = Field(default=20, ge=2, le=DENSE // 2, description="clusters that a cluster is split into")
    leaf: int = Field(default=200, ge=1, description="a cluster of at most so many items is not split")
    assignment: Assignment = Field(
        default="cluster_qr", description="eigenvectors to clusters: pivoted QR; k-means, whose clusters are more even"
    )


class P5CIDConfig(TigerConfig):
    """The whole method. Profile `paper` has the shape of T5-small and the optimiser of the authors' OpenP5."""

    section: ClassVar[str] = "p5cid"

    variant: Literal["ours"] = Field(default="ours", description="one")  # pyright: ignore[reportIncompatibleVariableOverride]
    index: IndexConfig = IndexConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    network: DecoderNetworkConfig = DecoderNetworkConfig()  # pyright: ignore[reportIncompatibleVariableOverride]

    variants: ClassVar[dict[str, dict[str, Any]]] = {"ours": {}}
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {**TigerDecoderConfig.profiles["smoke"], "index": {"branches": 3, "leaf": 4}},
        "cpu": {name: value for name, value in TigerDecoderConfig.profiles["cpu"].items() if name != "index"},
        "gpu": {name: value for name, value in TigerDecoderConfig.profiles["gpu"].items() if name != "index"},
        "paper": {
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
        index = self.index
        return CIDTokenizer(branches=index.branches, leaf=index.leaf, assignment=index.assignment)


class P5CID(Tiger):
    """P5-CID's codes in a network over code tokens. Needs no item text."""

    config_class: ClassVar[type[ModelConfig]] = P5CIDConfig
    code_version: ClassVar[int] = 1
