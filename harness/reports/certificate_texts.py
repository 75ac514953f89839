"""Texts of a certificate from the record: reproducibility checklist, model card, results in the hub's format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from harness.protocol.protocol import METRICS, unit_of
from harness.store.record import Record

NOT_RECORDED = "not recorded"
HEADINGS = {  # heading of the checklist → parts of the names of its settings
    "Text and encoder": r"text|semantic|encoder|pooling|feature",
    "Tokenizer and item codes": r"index|tokenizer|codes?\b|rqvae|tree|behavior|contrast",
    "Prompts and tasks": r"prompt|task|template|sample|window",
    "Model and trainable parameters": r"backbone|network|adapter|lora|layer|hidden|embedding_size|dropout|model",
    "Optimiser and schedule": (
        r"learning_rate|optimi|weight_decay|schedule|warm|step|epoch|batch|clip|accumulate|precision"
    ),
    "Selection on validation": r"choose|patience|every|valid|stop",
    "Decoding": r"decode|beam|normalise|filter",
}


def checklist(record: Record, settings: Mapping[str, Any], command: str) -> str:
    """The reproducibility checklist as Markdown: entries of the record, and a note for each that is missing."""
    lines = [f"# Reproducibility checklist: {record.model} on {record.dataset.name}", ""]
    for heading, rows in _sections(record, settings, command).items():
        lines += [f"## {heading}", "", "| item | value |", "| --- | --- |"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
        lines.append("")
    return "\n".join(lines)


def _sections(record: Record, settings: Mapping[str, Any], command: str) -> dict[str, dict[str, Any]]:
    data, protocol, cost, env, effort = record.dataset, record.protocol, record.cost, record.env, record.effort
    unit = unit_of(protocol.name)
    sections: dict[str, dict[str, Any]] = {
        "Data": {
            "data set": data.name,
            "users, items, interactions": f"{data.users:,}, {data.items:,}, {data.interactions:,}",
            "fingerprint": data.fingerprint,
            "preprocessing": "; ".join(map(str, record.details.get("data_notes") or ())) or NOT_RECORDED,
        },
        "Protocol": {
            "split": protocol.name,
            "fingerprint of the split": protocol.fingerprint,
            "longest history": protocol.max_history,
            "history taken out of lists": protocol.exclude_history,
            "candidates": "all items",
            "leaks declared": "; ".join(record.leaks) or "none",
            "alarms of the audit": "; ".join(record.audit.get("alarms") or ()) or "none",
        },
    }
    rest: dict[str, Any] = {}
    for name, value in _flat(settings):
        heading = next((each for each, words in HEADINGS.items() if re.search(words, name.partition(".")[2])), None)
        if "." in name and not name.startswith(("protocol.", "data.")):
            (sections.setdefault(heading, {}) if heading else rest)[name] = value
    sections["Other settings"] = rest
    sections["Seeds and selection"] = {
        "seed": record.seed,
        "profile": record.profile,
        "configurations tried": NOT_RECORDED if effort is None else effort.trials,
        "search": "none" if effort is None or effort.study is None else effort.study,
        "searched by": "validation cases alone" if effort is not None and effort.study else "nothing was searched",
        "seconds of the search": None if effort is None else effort.seconds,
    }
    sections["Hardware and cost"] = {
        "device": cost.device or NOT_RECORDED,
        "platform": env.platform,
        "training, seconds": cost.train_seconds,
        f"ranking, {unit} a second": cost.eval_users_per_second,
        "peak memory, MiB": cost.peak_memory_mb,
        "parameters": cost.parameters,
        "trainable parameters": cost.trainable_parameters,
        "energy": "not measured: no driver reported it",
    }
    sections["Software"] = {
        "code version of the method": env.code_version,
        "revision": env.revision or NOT_RECORDED,
        "python": env.python,
        **env.packages,
    }
    sections["Evaluation"] = {
        "metrics": ", ".join(METRICS),
        "metric library": f"ranx, over items, one relevant item a {unit[:-1]}",
        f"test {unit}": record.integrity.users_scored,
        "short, invalid, repeated items in lists": ", ".join(
            str(getattr(record.integrity, name)) for name in ("short", "invalid", "duplicate")
        ),
        "statistics": "one run; paired tests between runs: harness compare",
        "command": command or NOT_RECORDED,
    }
    return {heading: rows for heading, rows in sections.items() if rows}


def model_card(record: Record, command: str) -> str:
    """A model card: YAML front matter, description of the model, evaluation, and the command that repeats it."""
    front = {
        "tags": ["recommender-system", "sequential-recommendation", record.family],
        "model_name": record.model,
        "datasets": [record.dataset.name],
        "metrics": list(record.metrics.test),
    }
    unit = unit_of(record.protocol.name)
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in record.metrics.test.items())
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip()}
---

# {record.model} on {record.dataset.name}

A next-item recommender of the family {record.family}, trained on {record.dataset.name}
({record.dataset.users:,} users, {record.dataset.items:,} items, {record.dataset.interactions:,} interactions), seed
{record.seed}.

## Evaluation

Protocol {record.protocol.name}, histories of at most {record.protocol.max_history} items, all items ranked,
one relevant item for each of {record.integrity.users_scored:,} test {unit}. Metrics are means over {unit}.

| metric | value |
| --- | --- |
{metrics}

## Intended use and limits

Offline comparison of recommenders under this protocol. The metrics say nothing of other data, of online behaviour or
of fairness between groups of users. `checklist.md` says how the model was made and what was not recorded.

## Repeat

    {command or "harness run --config config.yaml"}

`harness verify DIR` recomputes the metrics from `run.trec` and `qrels.txt`.
"""


def hub_results(record: Record) -> str:
    """A list of entries with `dataset`, `value`, `date` and `notes`, as `.eval_results/*.yaml` on the hub has them."""
    date = record.finished.date().isoformat()
    entries = [
        {
            "dataset": {"id": record.dataset.name, "task_id": metric, "revision": record.dataset.fingerprint},
            "value": value,
            "date": date,
            "notes": f"{record.model}, seed {record.seed}, {record.protocol.name}, split {record.protocol.fingerprint}",
        }
        for metric, value in record.metrics.test.items()
    ]
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=120)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _cell(value: Any) -> str:
    """Text for one cell of a Markdown table."""
    if value is None:
        return NOT_RECORDED
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(text.split()).replace("|", "\\|")
