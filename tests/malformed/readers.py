"""Every reader of a file that a stranger may have made, with a valid file of each: a table."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.load import read_folder
from harness.data.raw.catalogue import resolve as release_of
from harness.data.raw.files import Found
from harness.data.raw.log import read_log
from harness.data.raw.metadata import Wanted, read_metadata
from harness.generative.codes import CodeTable
from harness.generative.encoder import read_settings
from harness.generative.instruct.generated import read_texts
from harness.generative.snapshots import read_snapshot, write_snapshot
from harness.generative.vectors import given
from harness.jobs import settings as settings_of
from harness.jobs.grids import read_grid
from harness.jobs.rankings import read_rankings
from harness.jobs.spaces import read_space
from harness.jobs.studies import _stored
from harness.protocol.artefacts import Artefact, Key
from harness.protocol.predictions import Predictions
from harness.protocol.provenance import Provenance, read_provenance, write_provenance
from harness.registry import model_entry
from harness.reports.published import FAMILY, NEEDED, read_published
from harness.store.events import read_events, seconds_between
from harness.store.predictions import read_predictions, write_predictions
from harness.store.runs import read_record
from tests import toys
from tests.folders import FAKE
from tests.malformed import mutations as make
from tests.malformed.tables import PARQUET, RAW, write_tables
from tests.store.made import document

DATA = toys.cycle(users=6, items=8, length=5)
SPLIT = toys.split(DATA)
USERS, ITEMS = DATA.users, DATA.items
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


def _rows(separator: str, head: str) -> str:
    rows = [
        separator.join((USERS[user], ITEMS[item], str(1_000_000 + 10 * time)))
        for user, row in enumerate(DATA.sequences)
        for time, item in enumerate(row)
    ]
    return "\n".join([head, *rows, ""])


LISTED = json.dumps({user: [ITEMS[i] for i in row] for user, row in zip(USERS, DATA.sequences, strict=True)})
TEXTS = json.dumps(
    {item: {"title": f"T {item}", "description": "d", "brand": None, "categories": ["a"]} for item in ITEMS}
)
REVIEWS = json.dumps({f"('{USERS[u]}', '{ITEMS[0]}')": {"review": "good", "summary": "s"} for u in range(3)})
CODES = json.dumps({item: [f"<a_{place % 3}>", f"<b_{place}>"] for place, item in enumerate(ITEMS)})
GENERATED = json.dumps(
    {
        "items": {item: f"wants {item}" for item in ITEMS},
        "users": {user: {"long": "old", "short": "new"} for user in USERS},
    }
)
SCORES = {user: {item: 1.0 / (place + 1) for place, item in enumerate(ITEMS)} for user in USERS}
ROWS = [(user, item, place, score) for user in USERS for place, (item, score) in enumerate(SCORES[user].items())]
SPACE = """about = "x"
[space]
fake.size = { low = 1, high = 9 }
fake.rate = { low = 0.1, high = 0.9, log = true }
fake.kind = { choices = ["a", "b"] }
"""
GRID = """about = "x"
settings = { "fake.size" = 4 }
[changes."other"]
fake.rate = 0.5
[product]
fake.size = [1, 2]
fake.kind = ["a", "b"]
"""
YAML_GRID = """about: x
changes:
  other:
    fake.rate: 0.5
product:
  fake.size: [1, 2]
"""
CONFIG = """model: tiger
dataset: toy
seed: 1
protocol:
  name: leave-one-out/1
  max_history: 20
tiger:
  user_tokens: 0
  index: {kind: rqvae, levels: 2, size: 8}
  network:
    layers: 1
    dropout: 0.1
  training:
    batch: 32
    learning_rate: 3e-3
tuning:
  trials: 3
  study: seed1-x
  metric: ndcg@10
  space: {a: b}
"""
TRIAL = {
    "number": 0, "values": {"fake.size": 1}, "mark": "m", "state": "complete", "seconds": 1.0, "reason": "",
    "metrics": document()["metrics"]["valid"], "trace": "", "repeats": None,
}  # fmt: skip
STUDY = json.dumps({"schema": 1, "trials": [TRIAL, {**TRIAL, "number": 1, "state": "failed", "metrics": {}}]})
LOG = "\n".join(
    json.dumps({"event": name, "seconds": place + 0.5}) for place, name in enumerate(("session", "train", "trained"))
)
MODULES = json.dumps(
    [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
)
POOLING = '{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}'
QUOTED = {"metric": "ndcg@10", "value": "0.05", "hand": "first", "dataset": "toy"}
PUBLISHED = "\n".join([",".join(NEEDED), *(",".join(QUOTED.get(c, f"{c}{n}") for c in NEEDED) for n in range(3)), ""])


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
    asked = SPLIT.test.requests.users
    return lambda folder: read_rankings(folder / name, DATA, 20, asked)


def _vectors(folder: Path) -> None:
    np.save(folder / "v.npy", np.random.default_rng(1).normal(size=(len(ITEMS), 4)).astype(np.float32))


def _with_provenance(folder: Path) -> None:
    _vectors(folder)
    write_provenance(folder / "v.npy", Provenance.of(SPLIT.train, "x/1"))


def _predictions(folder: Path) -> None:
    lists = Predictions(np.arange(len(USERS)), np.tile(np.arange(5), (len(USERS), 1)), np.tile(-np.arange(5.0), (6, 1)))
    write_predictions(folder / "p.parquet", lists, USERS, ITEMS)


def _snapshot(folder: Path) -> None:
    import torch

    write_snapshot(folder / "s.safetensors", {"a": torch.arange(8.0), "b": torch.zeros(2, 2)}, {"mark": "m", "n": 1})


def _entry(folder: Path) -> Artefact:
    return Artefact(Key("x", {"a": 1}), folder / "m.json")


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
        found = Found(spec, folder / name, member)
        if kind == "interactions":
            return read_log(found, release)
        return read_metadata(found, release, Wanted(["I0", "I1", "1", "2"], np.ones(4, bool)))

    return read


JSONS, CSV, TSV = make.JSON, make.cells(b","), make.cells(b"\t")

READERS = (
    Reader("NAME.inter.json", "x.inter.json", JSONS, _put(x__inter__json=LISTED), _folder),
    Reader("NAME.item.json", "x.item.json", JSONS, _put(x__inter__json=LISTED, x__item__json=TEXTS), _folder),
    Reader("NAME.review.json", "x.review.json", JSONS, _put(x__inter__json=LISTED, x__review__json=REVIEWS), _folder),
    Reader("NAME.index.json", "i.json", JSONS, _put(i__json=CODES), lambda f: CodeTable.read(f / "i.json", ITEMS)),
    Reader(
        "NAME.inter", "x.inter", TSV, _put(x__inter=_rows("\t", "user_id:token\titem_id:token\ttimestamp:float")), _folder
    ),
    Reader(
        "NAME.item", "x.item", TSV,
        _put(
            x__inter=_rows("\t", "user_id:token\titem_id:token\ttimestamp:float"),
            x__item="\n".join(["item_id:token\ttitle:token_seq\tclass:token_seq", *(f"{i}\tT\ta b" for i in ITEMS), ""]),
        ),
        _folder,
    ),
    Reader("interactions.csv", "interactions.csv", CSV, _put(interactions__csv=_rows(",", "user,item,timestamp")), _folder),
    Reader(
        "items.csv", "items.csv", CSV,
        _put(
            interactions__csv=_rows(",", "user,item,timestamp"),
            items__csv="\n".join(["item,title,categories", *(f'{i},"T, {i}",a' for i in ITEMS), ""]),
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
    Reader("configuration", "c.yaml", make.YAML_FILE, _put(c__yaml=CONFIG), _config),
    Reader("--set", "set", make.YAML_FILE | {"another value": make.setting}, _put(set="tiger.training.batch=32"), _set),
    Reader("grid (TOML)", "g.toml", make.TOML_FILE, _put(g__toml=GRID), _grid("g.toml")),
    Reader("grid (YAML)", "g.yaml", make.YAML_FILE, _put(g__yaml=YAML_GRID), _grid("g.yaml")),
    Reader("search space", "s.toml", make.TOML_FILE, _put(s__toml=SPACE), lambda f: read_space(f / "s.toml", FAKE)),
    Reader("rankings (ranx JSON)", "r.json", JSONS, _put(r__json=json.dumps(SCORES)), _rankings("r.json")),
    Reader(
        "rankings (CSV)", "r.csv", CSV,
        _put(r__csv="\n".join(["user,item,score", *(f"{u},{i},{s}" for u, i, _, s in ROWS), ""])), _rankings("r.csv"),
    ),
    Reader(
        "rankings (TREC)", "r.run", make.cells(b" "),
        _put(r__run="".join(f"{u} Q0 {i} {p} {s} t\n" for u, i, p, s in ROWS)), _rankings("r.run"),
    ),
    Reader("result.json", "r.json", JSONS, _put(r__json=json.dumps(document())), lambda f: read_record(f / "r.json")),
    Reader("log.jsonl", "log.jsonl", make.JSON_LINES, _put(log__jsonl=LOG), _log),
    Reader(
        "predictions.parquet", "p.parquet", PARQUET, _predictions, lambda f: read_predictions(f / "p.parquet", USERS, ITEMS)
    ),
    Reader("study.json", "study.json", JSONS, _put(study__json=STUDY), lambda f: _stored(f / "study.json")),
    Reader(
        "vectors (.npy)", "v.npy", {**make.BYTES, "another header": make.npy}, _vectors,
        lambda f: given(f / "v.npy", SPLIT.train, declared=False),
    ),
    Reader(
        "provenance", "v.npy.provenance.json", JSONS, _with_provenance, lambda f: read_provenance(f / "v.npy")
    ),
    Reader("generated texts", "t.json", JSONS, _put(t__json=GENERATED), lambda f: read_texts(f / "t.json", SPLIT.train)),
    Reader("checkpoint", "s.safetensors", make.BYTES, _snapshot, lambda f: read_snapshot(f / "s.safetensors")),
    Reader("cache manifest", "m.json", JSONS, _lay_kept, _kept),
    Reader("cached content", "v.npy", {**make.BYTES, "another header": make.npy}, _lay_kept, _kept),
    Reader(
        "encoder modules", "modules.json", JSONS, _put(modules__json=MODULES, **{"1_Pooling___config__json": POOLING}),
        lambda f: read_settings(str(f)),
    ),
    Reader(
        "encoder pooling", "1_Pooling/config.json", JSONS,
        _put(modules__json=MODULES, **{"1_Pooling___config__json": POOLING}), lambda f: read_settings(str(f)),
    ),
    Reader(
        "published rows", f"{FAMILY}/x.csv", CSV, _put(**{f"{FAMILY}___x__csv": PUBLISHED}), read_published
    ),
)  # fmt: skip
