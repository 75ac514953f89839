"""How item codes are made."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from harness.core.settings_types import ReadyIndex, UserFile
from harness.generative.tokenizers.embeddings import Source
from harness.generative.tokenizers.rqvae import RQVAEConfig

RQVAE_K = 256


class IndexConfig(ReadyIndex):
    """Vectors to item codes: one tree (or RQ-VAE) a source, the codes joined in the order of `sources`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["tree", "random", "rqvae", "file"] = Field(
        default="tree",
        description="balanced trees; codes of the same trees dealt out at random; RQ-VAE codes; a ready index file",
    )
    sources: tuple[Source, ...] = Field(
        default=("semantic", "behavior"), min_length=1, description="in the order of their tokens; one or both"
    )
    levels: tuple[Source, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=8,
        description="kind=tree: one tree instead of one a source; these sources split its levels in turn, one token a "
        "level, so that all of them decide a short code; null: a tree a source",
    )
    k: int | None = Field(
        default=None,
        ge=2,
        description="tokens of a level; null: the smallest that holds the catalogue (tree, random), 256 (rqvae)",
    )
    height: int = Field(default=2, ge=1, le=8, description="levels of a source's tree, tokens of a source")
    order: Literal["clustered", "released"] = Field(
        default="clustered",
        description="numbers below a tree's first level: by shared residual centres, or arbitrary as released",
    )
    file: UserFile | None = Field(
        default=None, description="kind=file: the index file; null: NAME.index.json in the data set's folder"
    )
    rqvae: RQVAEConfig = RQVAEConfig()

    @model_validator(mode="after")
    def _levels_are_of_a_tree(self) -> IndexConfig:
        if self.levels is not None and self.kind != "tree":
            raise ValueError(f"index.levels is for index.kind=tree, not {self.kind}")
        return self

    def used_sources(self) -> tuple[Source, ...]:
        """The sources that the codes are made of, without repeats, in the order of their tokens."""
        return self.sources if self.levels is None else tuple(dict.fromkeys(self.levels))
