"""`Tokenizer`: items to codes (`ItemIndex`), computed or read from a file, and the initial embeddings of code tokens. A
tokenizer is one class whose fields are its settings, and one line in `harness.registry.TOKENIZERS`;
`SECTION.tokenizer.kind` then selects it for every generative recommender.

`RQVAETokenizer` and `FileTokenizer` are the two that need no more than item text, or a file.
"""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError

from harness.core.artifact_cache import CacheEntry, Key
from harness.core.config_files import UserFile
from harness.core.seeding import derive_seed
from harness.data.dataset import CanonicalOrder
from harness.errors import InputError
from harness.generative.config import SemanticConfig
from harness.generative.item_codes import CodeTable, inspect
from harness.generative.tokenizers.embeddings import (
    EmbeddingSource,
    ItemVectors,
    Source,
    TextEmbeddings,
    artefact,
    cached,
    check_finite,
    vectors_key,
)
from harness.generative.tokenizers.rqvae import RQVAEConfig, rqvae_codes
from harness.protocol.audit.provenance import Provenance, read_provenance, write_provenance
from harness.protocol.context import RunContext
from harness.protocol.recommender import TextModelConfig
from harness.protocol.split import TrainingData
from harness.registry import load_tokenizer

VERSION = "rqvae-index/1"
NOISE = 0.3  # of initial code embeddings, in deviations of the projected means
INDEX_FILE = "item.index.json"  # in a run's folder
CODES = "codes"  # name of the cache entries of codes
Vectors = Mapping[Source, ItemVectors]


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemIndex:
    """The codes of all items. `details`: measurements, JSON-able. `blocks`: for consecutive levels their source of item
    vectors (None: none) and number; empty: all levels stand for item text."""

    table: CodeTable
    provenance: Provenance
    details: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[tuple[Source | None, int], ...] = ()

    def write(self, path: Path, data: TrainingData) -> None:
        """Writes an index file in LC-Rec's layout, and its provenance."""
        self.table.write(path, data.items)
        write_provenance(path, self.provenance)

    def record(self) -> dict[str, Any]:
        """For the run's record: statistics of the codes, provenance, measurements."""
        return {**inspect(self.table), **self.provenance.model_dump(), **self.details}


def index_file(path: Path | None, data: TrainingData, setting: str) -> Path:
    """The file that `setting` names, or the one of the data set. Raises `InputError` if there is neither."""
    if path is not None:
        return path
    if data.index_file is None:
        raise InputError(
            "this data set comes without an index file", where=data.dataset, hint=f"name one with {setting}"
        )
    return data.index_file


def ready_index(path: Path, data: TrainingData, *, declared: bool) -> ItemIndex:
    """Codes from an index file. Raises `InputError` for one that is malformed or lacks items, and for one computed from
    held-out rows (unless that leak is `declared`)."""
    table, provenance = CodeTable.read(path, data.items), read_provenance(path)
    provenance.check(data, location=str(path), declared=declared)
    return ItemIndex(table=table, provenance=provenance, details={"kind": "file", "file": path.name})


def centred(vectors: np.ndarray) -> np.ndarray:
    """Directions around the mean, unit length: the common part of all items says nothing about one."""
    changed = vectors - vectors.mean(axis=0)
    return (changed / np.linalg.norm(changed, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def code_directions(index: ItemIndex, vectors: Vectors, width: int, seed: int) -> torch.Tensor:
    """First rows for the code tokens, (code tokens, width): the mean vector of the items that a token stands for,
    taken to the backbone's width by a random projection; below a source's first level the mean of what is left once
    the parents' means are taken away. A little noise keeps tokens of equal means apart. Levels that stand for no
    source's vectors (random codes, or vectors that are not in use) are noise alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "code rows"))
    table, blocks, first = index.table, [], 0
    for source, levels in index.blocks or (("semantic", table.levels),):
        item_vectors = vectors.get(source) if source else None
        residual = centred(item_vectors.values) if item_vectors else np.zeros((table.n_items, 1), dtype=np.float32)
        projection = torch.randn(residual.shape[1], width, generator=generator)
        parents = np.zeros(len(residual), dtype=np.int64)
        for level in range(first, first + levels):
            digit, size = table.digits[:, level], table.sizes[level]
            rows = torch.from_numpy(_means(residual, digit, size)).float() @ projection
            noise = torch.randn(size, width, generator=generator)
            blocks.append(with_noise(rows, noise) if item_vectors else noise)
            _, parents = np.unique(parents * size + digit, return_inverse=True)
            residual = residual - _means(residual, parents, int(parents.max()) + 1)[parents]
        first += levels
    return torch.cat(blocks)


def with_noise(rows: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """`rows` with a deviation of one, and a little of `noise`, which keeps equal rows apart."""
    return rows / rows.std().clamp(min=1e-6) + NOISE * noise


def _means(vectors: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    sums = np.zeros((size, vectors.shape[1]))
    np.add.at(sums, groups, vectors)
    return sums / np.bincount(groups, minlength=size).clip(min=1)[:, None]


class Tokenizer(BaseModel, ABC):
    """Base of the tokenizers: a frozen value. A subclass declares `kind`, its settings, the `sources` that it reads and
    how codes are made of them (`make_index`). A setting `semantic` or `behavior` that is left out is taken from the
    section of that name of the method, where it has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def sources(self) -> tuple[EmbeddingSource, ...]:
        """The item vectors that the codes are made of."""
        return ()

    def check(self, data: TrainingData) -> None:
        """Raises `InputError` for what can be seen to be wrong before any vector is computed."""

    @abstractmethod
    def make_index(self, data: TrainingData, vectors: Vectors, context: RunContext) -> ItemIndex:
        """Codes of all items from the vectors of `sources`."""

    def fit(self, data: TrainingData, context: RunContext) -> tuple[Vectors, ItemIndex]:
        """The vectors of all `sources`, and the item codes."""
        self.check(data)
        vectors: Vectors = {source.name: source.fit(data, context) for source in self.sources()}
        return vectors, self.make_index(data, vectors, context)

    def cache_entries(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        """The cache entries that `fit` looks up, in that order. Nothing is computed or downloaded."""
        return tuple(entry for source in self.sources() for entry in source.cache_entries(data, context))

    def reads_text(self) -> bool:
        """Whether `fit` reads item text."""
        return False

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """The files that `fit` reads besides the data set."""
        return ()

    def leaks(self) -> tuple[str, ...]:
        """As `ModelConfig.leaks`."""
        return ()

    def completed(self, method: BaseModel) -> Self:
        """With each section that is left out (None) taken from the method's configuration, where it has that one."""
        empty = [name for name in type(self).model_fields if getattr(self, name) is None]
        return self.model_copy(update={n: getattr(method, n) for n in empty if n in type(method).model_fields})


def _by_kind(value: Any) -> Any:
    """The tokenizer that a mapping with a `kind` describes. Raises `ValueError`, which pydantic reports."""
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get("kind"), str):
        raise ValueError("kind is missing: say which tokenizer these settings are for")
    try:
        tokenizer_class = load_tokenizer(value["kind"])
        return tokenizer_class.model_validate_json(json.dumps(value, default=str), strict=True)
    except InputError as error:
        raise ValueError(str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


AnyTokenizer = Annotated[SerializeAsAny[Tokenizer], BeforeValidator(_by_kind)]
"""A setting that holds any registered tokenizer, chosen by its `kind`."""


class TokenizerSeedConfig(TextModelConfig):
    """Base of the configurations with item codes from a random stream of their own. Stored configurations leave out
    the default, so that runs from before this setting keep their key."""

    tokenizer_seed: int | None = Field(
        default=None,
        ge=0,
        exclude_if=lambda value: value is None,
        description="seed of the tokenizer (item codes and the vectors they are made of); null: the run's seed",
    )


class TokenizedConfig(TokenizerSeedConfig):
    """Base of the configurations of methods with item codes. A method declares its section `index` (`ReadyIndex` with a
    `kind`) and `own_tokenizer`. Stored configurations leave out the default of `tokenizer` too."""

    section: ClassVar[str]  # of the method, in error messages

    index: Any = None
    tokenizer: AnyTokenizer | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="another tokenizer than the method's own, by its kind (rqvae, rqkmeans, opq, tree, random, file, "
        "or a registered one), and its settings; null: the method's own, whose settings are those of index",
    )

    @abstractmethod
    def own_tokenizer(self) -> Tokenizer:
        """The method's own tokenizer, with the settings of `index`."""

    def file_tokenizer(self) -> Tokenizer:
        """The tokenizer of `index.kind=file`."""
        return FileTokenizer(file=self.index.file, setting=f"{self.section}.index.file")

    def item_tokenizer(self) -> Tokenizer:
        """The tokenizer that makes the item codes: that of the setting `tokenizer`, a ready index, or the own one."""
        if self.tokenizer is not None:
            return self.tokenizer.completed(self)
        return self.file_tokenizer() if self.index.kind == "file" else self.own_tokenizer()

    def leaks(self) -> tuple[str, ...]:
        """Those of the tokenizer."""
        return self.item_tokenizer().leaks()

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """Those of the tokenizer, after those of the other parts."""
        return tuple(dict.fromkeys((*super().files(data), *self.item_tokenizer().files(data))))


class CodesOnlyConfig(TokenizedConfig):
    """Base of the configurations of methods whose model reads item codes only. A method declares its section `training`
    (`NetworkTrainingConfig`)."""

    training: Any = None

    def resolved(self, device: str) -> Self:
        return self.model_copy(update={"training": self.training.resolved(device)})

    def reads_text(self) -> bool:
        """False if codes, or the vectors that they are made of, are ready."""
        return self.item_tokenizer().reads_text()


class CodebookConfig(BaseModel):
    """Settings of codes with a codebook for each level: of tokenizers, and of a method's section `index`."""

    levels: int = Field(default=4, ge=1, le=8, description="codebooks, tokens of a code")
    size: int = Field(default=256, ge=2, description="codes of a codebook")
    distinct: Literal["token", "none"] = Field(
        default="none", description="token: one more token numbers the items that share a code; none: they share it"
    )

    def table(self, digits: np.ndarray, items: tuple[str, ...]) -> CodeTable:
        """The codes of all `items`: `digits`, int64 (n_items, levels), with the distinguishing token if set."""
        sizes = (self.size,) * self.levels
        if self.distinct == "token":
            numbers = places_in_group(digits, items)
            digits, sizes = np.column_stack([digits, numbers]), (*sizes, int(numbers.max()) + 1)
        return CodeTable(digits, sizes)


class TextCodeTokenizer(Tokenizer, CodebookConfig):
    """Base of the tokenizers that make codes of text vectors. Items are numbered by their raw ids while codes are made,
    so that equal vectors give equal codes in whatever order a source lists its items. Codes are cached under `version`,
    settings, vectors, seed and kind of device; `details` has the seconds that computing them took."""

    version: ClassVar[str]

    semantic: SemanticConfig | None = Field(default=None, description="text vectors; null: the method's")

    def sources(self) -> tuple[EmbeddingSource, ...]:
        return (TextEmbeddings(self.semantic or SemanticConfig()),)

    @abstractmethod
    def digits(self, vectors: Sequence[np.ndarray], context: RunContext) -> tuple[np.ndarray, dict[str, Any]]:
        """The codes, int64 (n_items, levels), of the vectors of all `sources`, each (n_items, dim); and measurements,
        with `collisions_before`: the share of items that shared a code before the distinguishing token."""

    def make_index(self, data: TrainingData, vectors: Vectors, context: RunContext) -> ItemIndex:
        """`details` are the measurements of `digits`. Raises `InputError` for vectors that are not finite."""
        selected = [vectors[source.name] for source in self.sources()]
        for item_vectors in selected:
            check_finite(item_vectors.values, "item vectors")

        def make() -> tuple[np.ndarray, dict[str, Any], Provenance]:
            order, started = CanonicalOrder.of((), data.items), time.monotonic()
            digits, details = self.digits([item_vectors.values[order.items] for item_vectors in selected], context)
            details = {**details, "seconds": round(time.monotonic() - started, 1)}
            return digits, details, Provenance.joined(self.version, *(entry.provenance for entry in selected))

        key = self._codes_key([item_vectors.key for item_vectors in selected], data, context)
        codes = cached(CODES, key, data.items, context, make)
        return ItemIndex(
            table=self.table(codes.values, data.items),
            provenance=codes.provenance,
            details={"kind": self.model_dump()["kind"], **codes.details},
        )

    def cache_entries(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        """With that of the codes, unless they are made of vectors from a file."""
        entries = super().cache_entries(data, context)
        if len(entries) < len(self.sources()):
            return entries
        key = self._codes_key([entry.key.digest for entry in entries], data, context)
        return (*entries, artefact(CODES, key, context))

    def _codes_key(self, vectors: Sequence[str], data: TrainingData, context: RunContext) -> Key:
        """The key of the codes without the distinguishing token. `vectors`: the keys of the vectors."""
        parts = {
            "method": self.version,
            "settings": self.model_dump(mode="json", exclude={"semantic", "collaborative", "distinct"}),
            "vectors": list(vectors),
            "seed": context.seed,
            "device": context.device.partition(":")[0],
        }
        return vectors_key("item codes", parts, data.items)

    def reads_text(self) -> bool:
        return self.semantic is None or self.semantic.vectors is None

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        return () if self.semantic is None else self.semantic.files(data)


class RQVAETokenizer(TextCodeTokenizer):
    """RQ-VAE codes of item text, as TIGER and LC-Rec make them."""

    kind: Literal["rqvae"] = "rqvae"
    stream: str = Field(default="rqvae", min_length=1, description="name of the random stream, derived from the seed")
    rqvae: RQVAEConfig = RQVAEConfig()

    version: ClassVar[str] = VERSION

    def digits(self, vectors: Sequence[np.ndarray], context: RunContext) -> tuple[np.ndarray, dict[str, Any]]:
        codes = rqvae_codes(vectors[0], self.levels, self.size, self.rqvae, context, self.stream)
        return codes.digits, {"collisions_before": codes.collisions, "rqvae": codes.record()}


def places_in_group(codes: np.ndarray, items: tuple[str, ...]) -> np.ndarray:
    """For each item its number, from 0, among the items with equal rows of `codes` (n_items, levels); int64 (n_items,).
    The order is that of a hash of the raw ids, so that neither a source's order nor popularity decides it.

    >>> sorted(places_in_group(np.array([[1], [2], [1], [1]]), ("a", "b", "c", "d"))[[0, 2, 3]].tolist())
    [0, 1, 2]
    """
    hashed = np.array([hashlib.sha256(item.encode()).hexdigest() for item in items])
    _, group = np.unique(codes, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.lexsort((hashed, group))
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) > 0))
    places = np.empty(len(items), dtype=np.int64)
    places[order] = np.arange(len(items)) - np.repeat(starts, np.diff(np.append(starts, len(items))))
    return places


class FileTokenizer(Tokenizer):
    """Ready codes from an index file."""

    kind: Literal["file"] = "file"
    file: UserFile | None = Field(default=None, description="null: NAME.index.json in the data set's folder")
    setting: str = Field(default="SECTION.tokenizer.file", exclude=True, description="its name in error messages")

    def make_index(self, data: TrainingData, vectors: Vectors, context: RunContext) -> ItemIndex:
        return ready_index(index_file(self.file, data, self.setting), data, declared=False)

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        return (index_file(self.file, data, self.setting),)
