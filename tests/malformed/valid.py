"""Valid files of each kind, as text."""

from __future__ import annotations

import json

from harness.reports.published import NEEDED
from tests import toys

DATA = toys.cycle(users=6, items=8, length=5)
USERS, ITEMS = DATA.users, DATA.items


def rows(separator: str, head: str) -> str:
    """Interactions as a table of text."""
    listed = [
        separator.join((USERS[user], ITEMS[item], str(1_000_000 + 10 * time)))
        for user, row in enumerate(DATA.sequences)
        for time, item in enumerate(row)
    ]
    return "\n".join([head, *listed, ""])


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
LINES = "".join(
    json.dumps({"user": user, "item": ITEMS[i], "timestamp": time}) + "\n"
    for user, row in zip(USERS, DATA.sequences, strict=True)
    for time, i in enumerate(row)
)
SEQUENCES = "".join(
    f"{user} {' '.join(ITEMS[i] for i in row)}\n" for user, row in zip(USERS, DATA.sequences, strict=True)
)
SCORES = {user: {item: 1.0 / (place + 1) for place, item in enumerate(ITEMS)} for user in USERS}
ROWS = [(user, item, place, score) for user in USERS for place, (item, score) in enumerate(SCORES[user].items())]
LISTS = {user: [*ITEMS[:3]] for user in USERS}
SPACE = """about: x
space:
  fake.size: {low: 1, high: 9}
  fake.rate: {low: 0.1, high: 0.9, log: true}
  fake.kind: {choices: [a, b]}
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


ATOMIC = rows("\t", "user_id:token\titem_id:token\ttimestamp:float")
ATOMIC_ITEMS = "\n".join(["item_id:token\ttitle:token_seq\tclass:token_seq", *(f"{i}\tT\ta b" for i in ITEMS), ""])
TABLE = rows(",", "user,item,timestamp")
ITEM_TABLE = "\n".join(["item,title,categories", *(f'{i},"T, {i}",a' for i in ITEMS), ""])
RANKED = "\n".join(["user,item,score", *(f"{u},{i},{s}" for u, i, _, s in ROWS), ""])
TREC = "".join(f"{u} Q0 {i} {p} {s} t\n" for u, i, p, s in ROWS)
