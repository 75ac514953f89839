"""Records made by hand, for tests of the store and of reports."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import yaml

from harness.protocol.protocol import METRICS
from harness.store.record import Record, RunKey
from harness.store.run_store import Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).isoformat()


def document(model: str = "a", seed: int | None = 1, value: float = 0.1, **changes: Any) -> dict[str, Any]:
    """A whole `result.json`; `changes` replace top-level keys, or update them where both are mappings."""
    base: dict[str, Any] = {
        "schema": 2,
        "run_id": f"seed{seed}-{model}",
        "status": "complete",
        "model": model,
        "family": "sanity",
        "dataset": {"name": "toy", "fingerprint": "d0", "users": 5, "items": 7, "interactions": 30},
        "protocol": {"name": "leave-one-out/1", "fingerprint": "p0", "max_history": 20, "exclude_history": False},
        "seed": seed,
        "profile": "cpu",
        "metrics": {"test": dict.fromkeys(METRICS, value), "valid": dict.fromkeys(METRICS, value)},
        "cost": {
            "train_seconds": 2.0,
            "eval_seconds": 1.0,
            "eval_users_per_second": 5.0,
            "peak_memory_mb": 100.0,
            "parameters": 1234567,
            "trainable_parameters": 0,
            "device": "cpu",
        },
        "integrity": {"users_expected": 5, "users_scored": 5, "short": 5, "invalid": 0, "duplicate": 0, "seen": 1},
        "env": {"python": "3.11", "platform": "x", "packages": {}, "code_version": "1", "revision": None},
        "started": NOON,
        "finished": NOON,
        "settings": {model: changes.get("details", {})},
        "command": ["harness", "run", model, "-d", "toy", "--profile", "cpu", "--seed", str(seed)],
        "details": {"configuration": model},
    }
    for key, change in changes.items():
        below = None if key == "settings" else base.get(key)
        base[key] = {**below, **change} if isinstance(below, dict) and isinstance(change, dict) else change
    return base


def put(store: Store, **fields: Any) -> Record:
    """Stores such a record as a complete run."""
    record = Record.model_validate(document(**fields))
    with store.claim(RunKey(record.model, record.dataset.name, record.run_id)) as claim:
        claim.folder.config.write_text(yaml.safe_dump(record.settings, sort_keys=False))
        return claim.finish(record).record
