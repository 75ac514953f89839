"""Settings of item codes and of the behaviour encoder."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.core.config_files import ReadyIndex, UserFile
from harness.generative.config import RowsBy, by_ids
from harness.generative.tokenizers.item_graph import GraphConfig
from harness.generative.tokenizers.rqvae import RQVAEConfig

PAPER_K = 256  # tokens of a level, in the paper's trees and in RQ-VAE codes
Source = Literal["semantic", "behavior"]
LEAK = (
    "eager.behavior.windows=released: the behaviour encoder is trained on the validation items "
    "(as in the released EAGER-LLM code)"
)


def smallest_k(n_items: int, height: int) -> int:
    """The smallest k with k^height >= n_items (at least 2).

    >>> smallest_k(1682, 2), smallest_k(9922, 2), smallest_k(8, 3)
    (42, 100, 2)
    """
    k = max(2, round(n_items ** (1 / height)) - 1)
    while k**height < n_items:
        k += 1
    return k


class IndexConfig(ReadyIndex):
    """Vectors to item codes: one tree (or RQ-VAE) a source, the codes joined in the order of `sources`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["tree", "random", "rqvae", "file"] = Field(
        default="tree",
        description="balanced trees; random codes of the same shape; RQ-VAE codes; an index file",
    )
    sources: tuple[Source, ...] = Field(
        default=("semantic", "behavior"), min_length=1, description="one or both, in the order of their tokens"
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
        description="tokens of a level; null: the smallest that fits the catalogue (tree, random), with "
        "leaf_tokens=own 256 or, if that is less, a quarter of the items, where they fit; 256 (rqvae)",
    )
    height: int = Field(default=2, ge=1, le=8, description="levels of a source's tree, tokens of a source")
    order: Literal["clustered", "released"] = Field(
        default="clustered",
        description="numbering below the first level: by shared residual centres, or arbitrary as released",
    )
    leaf_tokens: Literal["shared", "own"] = Field(
        default="shared",
        exclude_if=lambda value: value == "shared",  # the keys of older runs stay
        description="kind=tree, random: tokens of a tree's last level; shared: `k`, the same under all parents; own: "
        "one for each item",
    )
    rqvae: RQVAEConfig = RQVAEConfig()

    @model_validator(mode="after")
    def _levels_are_of_a_tree(self) -> IndexConfig:
        if self.levels is not None and self.kind != "tree":
            raise ValueError(f"index.levels is for index.kind=tree, not {self.kind}")
        return self

    @property
    def own_leaves(self) -> bool:
        """Whether the last level of each tree has a token for each item."""
        return self.leaf_tokens == "own" and self.kind in ("tree", "random")

    @property
    def heights(self) -> tuple[int, ...]:
        """Levels of each tree, in the order of the tokens."""
        return (self.height,) * len(self.sources) if self.levels is None else (len(self.levels),)

    def tokens_of_level(self, n_items: int) -> int:
        """Tokens of a level for this catalogue; the last level has others with own leaf tokens."""
        if self.k is not None or self.kind == "rqvae":
            return self.k or PAPER_K
        smallest = smallest_k(n_items, self.heights[0])
        return max(smallest, min(PAPER_K, n_items // 4)) if self.own_leaves else smallest

    def used_sources(self) -> tuple[Source, ...]:
        """The sources that the codes are made of, without repeats, in the order of their tokens."""
        return self.sources if self.levels is None else tuple(dict.fromkeys(self.levels))


class BehaviorConfig(BaseModel):
    """`encoder` is the paper's DIN, a SASRec, or `graph`, which trains nothing; the fields after `vectors_rows`
    are of DIN and SASRec unless they say so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: Literal["din", "sasrec", "graph"] = "din"
    graph: GraphConfig = GraphConfig()
    windows: Literal["clean", "released"] = Field(
        default="clean",
        description="source of training windows: training rows, or, as in the released code, rows that end with the "
        "validation item (a leak, marked in every record and table)",
    )
    choose: Literal["validation", "last"] = Field(
        default="validation", description="the epoch with the best ndcg@10 on validation, or the last"
    )
    patience: int = Field(default=3, ge=1, description="epochs without improvement before training stops")
    validation_users: int = Field(default=500, ge=1, description="maximum number of validation users")
    vectors: UserFile | None = Field(
        default=None,
        description="precomputed vectors: Parquet or .npz with an id column, or .npy with FILE.ids.txt",
    )
    vectors_rows: RowsBy = Field(
        default="ids",
        exclude_if=by_ids,
        description="item-file: the rows of a .npy are in the order of the data set's item file",
    )

    dim: int = Field(default=64, ge=2, description="dimensions of an item vector")
    epochs: int = Field(default=20, ge=1, description="maximum number of passes over all training windows")
    batch: int = Field(default=64, ge=1, description="batch size in windows")
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    window: int = Field(default=21, ge=2, description="sasrec: items of a training window")
    layers: int = Field(default=2, ge=1, description="sasrec: transformer blocks")
    heads: int = Field(default=2, ge=1, description="sasrec: attention heads")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="sasrec: of the full softmax")
    negatives: int = Field(default=60, ge=1, description="din: negatives of each target")
    samples: int | None = Field(default=None, ge=1, description="din: random targets of an epoch; null: all")

    @model_validator(mode="after")
    def _heads_share_dimensions(self) -> Self:
        if self.encoder == "sasrec" and self.vectors is None and self.dim % self.heads:
            raise ValueError(f"{self.dim} dimensions (dim) cannot be shared by {self.heads} heads")
        return self
