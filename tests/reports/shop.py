"""A small store that has something for every part of a report, with titles that try to be markup."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from harness.reports.leaderboard import Board, boards
from harness.store.run_store import Store

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<!--<script>",
    "\"'><b>bold</b>&amp;",
    '<a href="javascript:alert(1)">link</a>',
    "${jndi} $title \\u003c",
)
LEAK = "<b>validation</b> items & labels"


def titles(items: int = 30) -> list[str]:
    """One a title, the first ones hostile."""
    return [HOSTILE[n] if n < len(HOSTILE) else f"plain thing {n}" for n in range(items)]


def fill(store: Store, make_run: Callable[..., Any], tokens: int = 4) -> None:
    """Three models (one leaks, one lacks its lists), logs, kept codes with so many first tokens, and an ablation whose
    rows are runs of one."""
    make_run("alpha", 1)
    make_run("alpha", 2, 9)
    make_run("beta", 1, 4, leaks=[LEAK], cost={"train_seconds": 20.0})
    make_run("gamma", 1, cost={"train_seconds": 0.5, "eval_users_per_second": 900.0})
    folders = {path.name: path for path in store.runs.glob("*/*/*") if path.is_dir()}
    (folders["seed1-gamma"] / "predictions.parquet").unlink()
    for name, offset in (("seed1-alpha", 0.0), ("seed2-alpha", 0.5), ("seed1-beta", 1.0)):
        lines: list[dict[str, Any]] = [{"event": "session", "seconds": 0.0}]
        for epoch in (1, 2, 3):
            messages = {
                "loss": 3.0 / epoch + offset,
                "valid": 0.1 * epoch,
                "seconds": 1.0,
                "session_seconds": 2.0 * epoch,
            }
            lines.append({"stage": "train", "epoch": epoch, **messages})
        (folders[name] / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    codes = {f"i{n}": [f"<a_{n % tokens}>", f"<b_{n}>"] for n in range(30)}
    (folders["seed1-alpha"] / "item.index.json").write_text(json.dumps(codes))
    put_grid(store, "grid-00000000", {"base": "seed1-alpha", "<i>worse</i>": "seed2-alpha", "undone": None})


def put_grid(store: Store, name: str, rows: dict[str, str | None]) -> None:
    """The state file of an ablation of alpha: a run id a row, None for one that is not made yet."""
    (run,) = {path.parent.name for path in store.runs.glob("alpha/*/seed1-alpha")}
    record = json.loads((store.runs / "alpha" / run / "seed1-alpha" / "result.json").read_text())
    slots = [
        {"cell": row, "seed": 1, "run_id": run_id, "state": "complete" if run_id else "new", "reason": "", "trace": ""}
        for row, run_id in rows.items()
    ]
    document = {
        "schema": 1,
        "grid": "grid",
        "about": "what each part is worth",
        "model": "alpha",
        "dataset": run,
        "split": record["protocol"]["fingerprint"],
        "rows": [{"name": row, "changes": f"alpha.part={row}" if n else ""} for n, row in enumerate(rows)],
        "runs": slots,
    }
    folder = store.root / "ablations" / "alpha" / run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document))


def board(store: Store) -> Board:
    """The one board of a store."""
    (result,) = boards(store.query(), "ndcg@10")
    return result
