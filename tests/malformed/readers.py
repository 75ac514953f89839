"""Every reader of a file that a stranger may have made, with a valid file of each: a table."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.core.artifact_cache import CacheEntry, Key
from harness.data.loading import read_folder
from harness.data.raw.interactions import read_log
from harness.data.raw.parsing import read_metadata
from harness.data.raw.releases import resolve as release_of
from harness.data.raw.streams import RawFileHandle
from harness.experiments.grid import read_grid
from harness.experiments.trials import Space, Trial, append_trial, read_space, read_trials
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import byte_tokenizer, init_random, tiny_shape
from harness.generative.tasks.item_texts import read_texts
from harness.generative.tokenizers.embeddings import load_user_vectors
from harness.generative.tokenizers.text_encoder import load_encoder
from harness.generative.training.checkpoint import read_snapshot, write_snapshot
from harness.protocol.audit.provenance import Provenance, read_provenance, write_provenance
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import METRICS
from harness.registry import model_entry
from harness.reports.published import FAMILY, read_published
from harness.runs import config as settings_of
from harness.runs.rankings import read_rankings
from harness.store.event_log import read_events, seconds_between
from harness.store.record import read_predictions, write_predictions
from harness.store.run_store import read_record
from tests import toys
from tests.folders import FAKE
from tests.malformed import mutations as make
from tests.malformed import valid
from tests.malformed.tables import LZ4, PARQUET, RAW, by_ranx, npy, write_ranked, write_tables, write_vectors
from tests.store.made import document

SPLIT = toys.split(valid.DATA)
SETTINGS = model_entry("tiger")


@dataclass(frozen=True)
class Reader:
    """`lay` puts valid files into a folder, `target` is the one that is damaged, `read` takes the folder. What `read`
    gives is None where a damaged file is set aside, to be made again."""

    name: str
    target: str
    kinds: Mapping[str, make.Change]
    lay: Callable[[Path], object]
    read: Callable[[Path], Any]


def _put(**files: str | bytes) -> Callable[[Path], None]:
    """Writes files; `__` in a name stands for a dot, `___` for a slash."""

    def lay(folder: Path) -> None:
        for name, content in files.items():
            path = folder / name.replace("___", "/").replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return lay


@cache
def _language_model() -> Path:
    """A folder with a language model of one small layer."""
    folder, tokenizer = Path(tempfile.mkdtemp()), byte_tokenizer()
    tokenizer.save_pretrained(folder)
    init_random(tiny_shape(1, len(tokenizer)), 1, torch.float32).save_pretrained(folder)
    return folder


def _text_encoder(folder: Path) -> None:
    shutil.copytree(_language_model(), folder, dirs_exist_ok=True)
    _put(modules__json=valid.MODULES, **{"1_Pooling___config__json": valid.POOLING})(folder)


def _trials(folder: Path) -> None:
    """A journal of two trials, one of which failed."""
    space, scores = Space("", "", ()), dict.fromkeys(METRICS, 0.5)
    append_trial(folder / "trials.journal", space, Trial(0, {"fake.size": 1}, "m", "complete", scores), 0.5)
    append_trial(folder / "trials.journal", space, Trial(1, {"fake.size": 2}, "n", "failed", reason="none"), None)


def _config(folder: Path) -> Any:
    return settings_of.resolve(SETTINGS, "smoke", settings_of.read_config(folder / "c.yaml", SETTINGS), ())


def _set(folder: Path) -> Any:
    text = os.fsdecode((folder / "set").read_bytes())
    return settings_of.resolve(SETTINGS, "smoke", settings_of.ConfigFile(), [text])


def _grid(name: str) -> Callable[[Path], Any]:
    return lambda folder: [cell.sets() for cell in read_grid(str(folder / name), FAKE).cells]


def _folder(folder: Path) -> Any:
    dataset = read_folder(folder)
    return dataset.fingerprint, toys.split(dataset).fingerprint if dataset.sequences.lengths.min() > 2 else None


def _rankings(name: str) -> Callable[[Path], Any]:
    fold = SPLIT.test
    return lambda folder: read_rankings(folder / name, valid.DATA, 20, fold)


def _vectors(folder: Path) -> None:
    np.save(folder / "v.npy", np.random.default_rng(1).normal(size=(len(valid.ITEMS), 4)).astype(np.float32))
    (folder / "v.ids.txt").write_text("\n".join(valid.ITEMS))


def _given(name: str) -> Callable[[Path], Any]:
    file = "v.npy" if name == "v.ids.txt" else name
    return lambda folder: load_user_vectors(folder / file, SPLIT.train, declared=False)


def _with_provenance(folder: Path) -> None:
    _vectors(folder)
    write_provenance(folder / "v.npy", Provenance.of(SPLIT.train, "x/1"))


def _predictions(folder: Path) -> None:
    lists = Predictions(
        np.arange(len(valid.USERS)), np.tile(np.arange(5), (len(valid.USERS), 1)), np.tile(-np.arange(5.0), (6, 1))
    )
    write_predictions(folder / "p.parquet", lists, valid.USERS, valid.ITEMS)


def _snapshot(folder: Path) -> None:
    import torch

    write_snapshot(folder / "s.safetensors", {"a": torch.arange(8.0), "b": torch.zeros(2, 2)}, {"mark": "m", "n": 1})


def _entry(folder: Path) -> CacheEntry:
    return CacheEntry(Key("x", {"a": 1}), folder / "m.json")


def _kept(folder: Path) -> Any:
    with contextlib.redirect_stderr(io.StringIO()):
        return _entry(folder).read()


def _lay_kept(folder: Path) -> None:
    _vectors(folder)
    _entry(folder).write([folder / "v.npy"], {"passes": 1})


def _log(folder: Path) -> Any:
    events = read_events(folder / "log.jsonl")
    return seconds_between(events, "train", "trained")


def _raw(name: str, kind: str) -> Callable[[Path], Any]:
    data, written, member = RAW[name]
    release = release_of(data).release
    spec = next(spec for spec in getattr(release, kind) if spec.format == written)

    def read(folder: Path) -> Any:
        result = RawFileHandle(spec, folder / name, member)
        if kind == "interactions":
            return read_log(result, release)
        return read_metadata(result, release, ["I0", "I1", "1", "2"], np.ones(4, bool))

    return read


JSONS, CSV, TSV = make.JSON, make.cells(b","), make.cells(b"\t")

READERS = (
    Reader("NAME.inter.json", "x.inter.json", JSONS, _put(x__inter__json=valid.LISTED), _folder),
    Reader(
        "NAME.item.json", "x.item.json", JSONS, _put(x__inter__json=valid.LISTED, x__item__json=valid.TEXTS), _folder
    ),
    Reader(
        "NAME.review.json",
        "x.review.json",
        JSONS,
        _put(x__inter__json=valid.LISTED, x__review__json=valid.REVIEWS),
        _folder,
    ),
    Reader(
        "NAME.index.json",
        "i.json",
        JSONS,
        _put(i__json=valid.CODES),
        lambda f: CodeTable.read(f / "i.json", valid.ITEMS),
    ),
    Reader("NAME.inter", "x.inter", TSV, _put(x__inter=valid.ATOMIC), _folder),
    Reader(
        "NAME.item",
        "x.item",
        TSV,
        _put(
            x__inter=valid.ATOMIC,
            x__item=valid.ATOMIC_ITEMS,
        ),
        _folder,
    ),
    Reader("interactions.csv", "interactions.csv", CSV, _put(interactions__csv=valid.TABLE), _folder),
    Reader(
        "items.csv",
        "items.csv",
        CSV,
        _put(
            interactions__csv=valid.TABLE,
            items__csv=valid.ITEM_TABLE,
        ),
        _folder,
    ),
    Reader("interactions.parquet", "interactions.parquet", PARQUET, write_tables, _folder),
    Reader("items.parquet", "items.parquet", PARQUET, write_tables, _folder),
    Reader("reviews.parquet", "reviews.parquet", PARQUET, write_tables, _folder),
    *(
        Reader(name, name, kinds, _put(**{name.replace(".", "__"): content}), _raw(name, kind))
        for name, kind, kinds, content in (
            ("ratings.csv", "interactions", CSV, RAW.content("ratings.csv")),
            ("reviews.json.gz", "interactions", make.packed(make.JSON_LINES), RAW.content("reviews.json.gz")),
            ("meta.json.gz", "metadata", make.packed(make.JSON_LINES), RAW.content("meta.json.gz")),
            ("literal.json.gz", "metadata", make.packed(make.TEXT), RAW.content("literal.json.gz")),
            ("ml.zip", "interactions", make.zipped(make.TEXT), RAW.content("ml.zip")),
        )
    ),
    Reader("configuration", "c.yaml", make.YAML_FILE, _put(c__yaml=valid.CONFIG), _config),
    Reader("--set", "set", make.YAML_FILE | {"another value": make.setting}, _put(set="tiger.training.batch=32"), _set),
    Reader("grid (TOML)", "g.toml", make.TOML_FILE, _put(g__toml=valid.GRID), _grid("g.toml")),
    Reader("grid (YAML)", "g.yaml", make.YAML_FILE, _put(g__yaml=valid.YAML_GRID), _grid("g.yaml")),
    Reader(
        "search space", "s.yaml", make.YAML_FILE, _put(s__yaml=valid.SPACE), lambda f: read_space(f / "s.yaml", FAKE)
    ),
    Reader("rankings (ranx JSON)", "r.json", JSONS, _put(r__json=json.dumps(valid.SCORES)), _rankings("r.json")),
    Reader(
        "rankings (CSV)",
        "r.csv",
        CSV,
        _put(r__csv=valid.RANKED),
        _rankings("r.csv"),
    ),
    Reader(
        "rankings (TREC)",
        "r.run",
        make.cells(b" "),
        _put(r__run=valid.TREC),
        _rankings("r.run"),
    ),
    Reader("rankings (lists)", "r.json", JSONS, _put(r__json=json.dumps(valid.LISTS)), _rankings("r.json")),
    Reader("rankings (tabs)", "r.tsv", TSV, _put(r__tsv=valid.RANKED.replace(",", "\t")), _rankings("r.tsv")),
    Reader("rankings (Parquet)", "r.parquet", PARQUET, write_ranked, _rankings("r.parquet")),
    Reader("rankings (ranx LZ4)", "r.lz4", LZ4, _put(r__lz4=by_ranx(valid.SCORES)), _rankings("r.lz4")),
    Reader("result.json", "r.json", JSONS, _put(r__json=json.dumps(document())), lambda f: read_record(f / "r.json")),
    Reader("log.jsonl", "log.jsonl", make.JSON_LINES, _put(log__jsonl=valid.LOG), _log),
    Reader(
        "predictions.parquet",
        "p.parquet",
        PARQUET,
        _predictions,
        lambda f: read_predictions(f / "p.parquet", valid.USERS, valid.ITEMS),
    ),
    Reader("trials.journal", "trials.journal", make.JSON_LINES, _trials, lambda f: read_trials(f / "trials.journal")),
    Reader(
        "vectors (.npy)",
        "v.npy",
        {**make.BYTES, "another header": npy},
        _vectors,
        lambda f: load_user_vectors(f / "v.npy", SPLIT.train, declared=False),
    ),
    *(
        Reader(f"vectors ({name})", name, kinds, write_vectors, _given(name))
        for name, kinds in (("v.npz", make.BYTES), ("v.parquet", PARQUET), ("v.ids.txt", make.TEXT))
    ),
    Reader("interactions.jsonl", "interactions.jsonl", make.JSON_LINES, _put(interactions__jsonl=valid.LINES), _folder),
    Reader(
        "log.csv.gz", "log.csv.gz", make.packed(CSV), _put(log__csv__gz=gzip.compress(valid.TABLE.encode())), _folder
    ),
    Reader("sequences", "user_sequence.txt", make.cells(b" "), _put(user_sequence__txt=valid.SEQUENCES), _folder),
    Reader("provenance", "v.npy.provenance.json", JSONS, _with_provenance, lambda f: read_provenance(f / "v.npy")),
    Reader(
        "generated texts",
        "t.json",
        JSONS,
        _put(t__json=valid.GENERATED),
        lambda f: read_texts(f / "t.json", SPLIT.train),
    ),
    Reader("checkpoint", "s.safetensors", make.BYTES, _snapshot, lambda f: read_snapshot(f / "s.safetensors")),
    Reader("cache manifest", "m.json", JSONS, _lay_kept, _kept),
    Reader("cached content", "v.npy", {**make.BYTES, "another header": npy}, _lay_kept, _kept),
    Reader(
        "encoder modules",
        "modules.json",
        JSONS,
        _text_encoder,
        lambda f: load_encoder(str(f), "auto", 8, "cpu"),
    ),
    Reader(
        "encoder pooling",
        "1_Pooling/config.json",
        JSONS,
        _text_encoder,
        lambda f: load_encoder(str(f), "auto", 8, "cpu"),
    ),
    Reader("published rows", f"{FAMILY}/x.csv", CSV, _put(**{f"{FAMILY}___x__csv": valid.PUBLISHED}), read_published),
)
