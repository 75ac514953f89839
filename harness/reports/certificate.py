"""`harness certify`: the evidence of a stored run as files; `harness verify DIR` checks them.

The folder has `certificate.json` (the record and the SHA-256 of every other file), `config.yaml`, `run.trec` and
`qrels.txt` (TREC formats, raw ids), `checklist.md` (reproducibility checklist), `README.md` (a model card) and
`.eval_results/DATASET.yaml` (results in the hub's format). In the TREC files blanks and % in ids are percent-encoded,
as columns are separated by blanks.

Verification needs the folder only: it recomputes every metric from the TREC files and compares all digits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml

from harness.core.files import write_result_text
from harness.core.json_files import read_json, read_text
from harness.data.loading import load_dataset
from harness.errors import HarnessError, InputError
from harness.evaluation.metrics import compute_metrics
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.protocol import DEEPEST, METRICS, unit_of
from harness.protocol.requests import Targets
from harness.protocol.split import split
from harness.reports.per_user import Measured, measured, protocol_of
from harness.reports.selection import leaves
from harness.reports.tables import render
from harness.store.record import Record
from harness.store.run_store import StoredRun

CERTIFICATE, RUN, QRELS = "certificate.json", "run.trec", "qrels.txt"
FORMAT = 1
LARGEST = 2**31  # bytes of a file that is read
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


@dataclass(frozen=True)
class Outcome:
    """Result of one check. `ok` is None if it could not be done here; `detail` says why."""

    name: str
    ok: bool | None
    detail: str


def certify(run: StoredRun, folder: Path, command: str = "", data: str | None = None) -> list[Path]:
    """Writes the certificate of a run into `folder`, a new or empty one, and returns its files. `command` repeats the
    run; `data`: location of the data set, if it was moved. Raises `InputError` for another data set or damaged lists.
    """
    side = measured([run], data)
    record, settings = run.record, run.settings
    lists = side.lists(run)
    texts = {
        RUN: "".join(_run_lines(side, lists, record)),
        QRELS: "".join(_qrels_lines(side)),
        "config.yaml": yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120),
        "checklist.md": render(
            "checklist.txt", record=record, sections=_sections(record, settings, command), cell=_cell
        ),
        "README.md": model_card(record, command),
        f".eval_results/{record.dataset.name}.yaml": hub_results(record),
    }
    for name, text in texts.items():
        write_result_text(folder / name, text)
    document = {
        "format": FORMAT,
        "record": record.document(),
        "command": command,
        "files": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
    }
    write_result_text(folder / CERTIFICATE, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return [folder / name for name in (CERTIFICATE, *texts)]


def verify_certificate(folder: Path, data: str | None = None) -> list[Outcome]:
    """Every check of a certificate, in a fixed order. `data`: a data set's name or folder, by default the record's
    name. Raises `InputError` for a missing or unreadable certificate."""
    path = folder / CERTIFICATE
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"no certificate of format {FORMAT}", where=str(path), hint="make it with harness certify")
    try:
        record = Record.model_validate(document["record"])
        sums = {str(name): str(value) for name, value in document["files"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise InputError("the certificate is not whole", where=str(path), hint="make it again") from error
    repeat = document.get("command") or "harness run --config config.yaml"
    valid = [Outcome("validation metrics", None, "no validation lists are stored")] if record.metrics.valid else []
    return [
        *_files(folder, sums),
        *_metrics(folder, record),
        *_data(folder, record, data),
        Outcome("training", None, f"the lists are taken as they are; to make them again: {repeat}"),
        *valid,
        Outcome("cost", None, "seconds and memory are of the machine that made the run"),
    ]


def _files(folder: Path, sums: Mapping[str, str]) -> Iterator[Outcome]:
    for name, expected in sums.items():
        path, problem = folder / name, ""
        if ".." in Path(name).parts or Path(name).is_absolute():
            problem = "outside the folder"
        elif not path.is_file():
            problem = "missing"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            problem = "changed since the certificate was written"
        yield Outcome(f"file {name}", not problem, problem or "as written")


def _metrics(folder: Path, record: Record) -> Iterator[Outcome]:
    try:
        users, items, targets = _read_qrels(folder / QRELS)
        lists = _read_run(folder / RUN, users, items)
        values = compute_metrics(lists, Targets(np.arange(len(users)), targets))
    except HarnessError as error:
        yield Outcome("metrics", False, str(error))
        return
    for name, stated in record.metrics.test.items():
        value, equal = values[name], values[name] == stated
        yield Outcome(name, equal, f"{value!r}" if equal else f"recomputed {value!r}, stated {stated!r}")


def _data(folder: Path, record: Record, data: str | None) -> Iterator[Outcome]:
    settings = yaml.safe_load(read_text(folder / "config.yaml", LARGEST)) if (folder / "config.yaml").is_file() else {}
    order = settings.get("order", "time") if isinstance(settings, dict) else "time"
    try:
        dataset = load_dataset(data or record.dataset.name, order)
    except InputError as error:
        yield Outcome("data set", None, f"not here ({error.what}); give it with -d")
        return
    actual, stated = dataset.fingerprint, record.dataset.fingerprint
    note = "" if actual == stated else f", stated {stated}"
    yield Outcome("data set", actual == stated, f"fingerprint {actual}{note}")
    if actual != stated:
        return
    current = split(dataset, protocol_of(record))
    yield Outcome("split", current.fingerprint == record.protocol.fingerprint, f"fingerprint {current.fingerprint}")
    expected = "".join(_qrels_lines(Measured(dataset, current)))
    equal = (folder / QRELS).is_file() and read_text(folder / QRELS, LARGEST) == expected
    yield Outcome("test targets", equal, "those of the split" if equal else "not those of the split")


def _encode(text: str) -> str:
    return quote(text, safe="".join(chr(code) for code in range(33, 127) if chr(code) != "%"), errors="surrogatepass")


def _run_lines(side: Measured, lists: Predictions, record: Record) -> Iterator[str]:
    """`user Q0 item rank score tag`, rank from 1."""
    names = side.split.test.names(side.dataset.users), side.dataset.items
    users, items = (list(map(_encode, part)) for part in names)
    for user, row, scores in zip(lists.cases.tolist(), lists.items.tolist(), lists.scores.tolist(), strict=True):
        for rank, (item, score) in enumerate(zip(row, scores, strict=True), start=1):
            if item != NO_ITEM:
                yield f"{users[user]} Q0 {items[item]} {rank} {score!r} {record.model}\n"


def _qrels_lines(side: Measured) -> Iterator[str]:
    """`user 0 item 1`: one relevant item a user, in the order of the cases."""
    targets, names = side.split.test.targets, side.split.test.names(side.dataset.users)
    for case, item in zip(targets.cases.tolist(), targets.items.tolist(), strict=True):
        yield f"{_encode(names[case])} 0 {_encode(side.dataset.items[item])} 1\n"


def _read_qrels(path: Path) -> tuple[dict[str, int], dict[str, int], np.ndarray]:
    """Users and items, encoded, by number, and each user's item, int64 (users,). Raises `InputError`."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    targets = []
    for location, fields in _lines(path):
        if len(fields) != 4 or fields[3] != "1" or fields[0] in users:
            raise InputError("not `user 0 item 1`, each user once", where=location)
        users[fields[0]] = len(users)
        targets.append(items.setdefault(fields[2], len(items)))
    return users, items, np.array(targets, dtype=np.int64)


def _read_run(path: Path, users: Mapping[str, int], items: dict[str, int]) -> Predictions:
    """The lists of all `users`; items that are no user's target are added to `items`."""
    lists = np.full((len(users), DEEPEST), NO_ITEM, dtype=np.int64)
    scores = np.zeros(lists.shape)
    for location, fields in _lines(path):
        try:
            user, rank, score = users[fields[0]], int(fields[3]) - 1, float(fields[4])
        except (IndexError, KeyError, ValueError) as error:
            raise InputError("not `user Q0 item rank score tag` of a test user", where=location) from error
        if not 0 <= rank < DEEPEST or lists[user, rank] != NO_ITEM:
            raise InputError(f"ranks of a user are not 1 to {DEEPEST}, each once", where=location)
        lists[user, rank] = items.setdefault(fields[2], len(items))
        scores[user, rank] = score
    return Predictions(np.arange(len(users)), lists, scores)


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The location and the fields of each line."""
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    for number, line in enumerate(read_text(path, LARGEST).splitlines(), start=1):
        yield f"{path}:{number}", line.split()


def _sections(record: Record, settings: Mapping[str, Any], command: str) -> dict[str, dict[str, Any]]:
    """The reproducibility checklist: entries of the record, None for each that is missing."""
    data, protocol, cost, env, effort = record.dataset, record.protocol, record.cost, record.env, record.effort
    unit, study = unit_of(protocol.name), None if effort is None else effort.study
    sections: dict[str, dict[str, Any]] = {
        "Data": {
            "data set": data.name,
            "users, items, interactions": f"{data.users:,}, {data.items:,}, {data.interactions:,}",
            "fingerprint": data.fingerprint,
            "preprocessing": "; ".join(map(str, record.details.get("data_notes") or ())) or None,
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
    for name, value in leaves(settings):
        heading = next((title for title, words in HEADINGS.items() if re.search(words, name.partition(".")[2])), None)
        if "." in name and not name.startswith(("protocol.", "data.")):
            (sections.setdefault(heading, {}) if heading else rest)[name] = value
    sections["Other settings"] = rest
    sections["Seeds and selection"] = {
        "seed": record.seed,
        "profile": record.profile,
        "configurations tried": None if effort is None else effort.trials,
        "search": "none" if study is None else study,
        "searched by": "validation cases alone" if study else "nothing was searched",
        "seconds of the search": None if effort is None else effort.seconds,
    }
    sections["Hardware and cost"] = {
        "device": cost.device or None,
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
        "revision": env.revision or None,
        "python": env.python,
        **env.packages,
    }
    integrity = record.integrity
    sections["Evaluation"] = {
        "metrics": ", ".join(METRICS),
        "metric library": f"ranx, over items, one relevant item a {unit[:-1]}",
        f"test {unit}": integrity.users_scored,
        "short, invalid, repeated items in lists": f"{integrity.short}, {integrity.invalid}, {integrity.duplicate}",
        "statistics": "one run; paired tests between runs: harness compare",
        "command": command or None,
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
    return render(
        "model_card.txt",
        record=record,
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        unit=unit_of(record.protocol.name),
        command=command or "harness run --config config.yaml",
    )


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


def _cell(value: Any) -> str:
    """Text for one cell of a Markdown table."""
    if value is None:
        return "not recorded"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(text.split()).replace("|", "\\|")
