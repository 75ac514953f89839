"""`harness data verify`: checks of data and split, the audit, and the provenance of artefacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.data.catalog import catalogue_entries
from harness.data.dataset import Dataset
from harness.data.loading import load_dataset
from harness.data.reading import Reading
from harness.errors import InputError
from harness.protocol.audit.audit import Audit, audit
from harness.protocol.audit.provenance import UNKNOWN, read_provenance
from harness.protocol.audit.verification import Check, verify
from harness.protocol.protocol import Protocol
from harness.protocol.split import parts
from harness.runs.config import protocol_sets, resolve_protocol


@dataclass(frozen=True)
class DatasetReport:
    """Result of the checks. `audit` is None if the protocol cannot be applied to the data, which a failed check
    reports."""

    dataset: Dataset
    protocol: Protocol
    checks: tuple[Check, ...]
    audit: Audit | None

    @property
    def broken(self) -> list[str]:
        """Names of the failed checks."""
        return [check.name for check in self.checks if not check.ok]

    @property
    def alarms(self) -> list[str]:
        """Leaks that the audit detected."""
        return [] if self.audit is None else self.audit.alarms()

    def document(self) -> dict[str, Any]:
        """JSON-able; `ok`: no failed check and no leak."""
        findings = () if self.audit is None else self.audit.findings
        return {
            "dataset": self.dataset.name,
            "protocol": self.protocol.model_dump(mode="json"),
            "ok": not self.broken and not self.alarms,
            "checks": [asdict(check) for check in self.checks],
            "findings": [asdict(finding) for finding in findings],
            "audit": None if self.audit is None else self.audit.document(),
        }


def inspect(
    name: str,
    order: str = "time",
    protocol: str | None = None,
    sets: Sequence[str] = (),
    files: Sequence[Path] = (),
    reading: Reading | None = None,
) -> DatasetReport:
    """Checks one data set under one protocol. Raises `InputError` if the data cannot be read."""
    rules = resolve_protocol((*protocol_sets(protocol), *sets))
    dataset = load_dataset(name, order, reading)
    checks = verify(dataset, rules, registered=name in catalogue_entries())
    if not all(check.ok for check in checks if check.name == "split"):
        return DatasetReport(dataset, rules, tuple(checks), None)
    split_parts = parts(dataset, rules)
    checks += [_artefact(path, dataset, rules) for path in files]
    return DatasetReport(dataset, rules, tuple(checks), audit(dataset, rules, split_parts))


def _artefact(path: Path, dataset: Dataset, rules: Protocol) -> Check:
    """Checks that a file of vectors or codes was computed without held-out rows of this split."""
    name = f"artefact {path.name}"
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint="check --artefact")
    try:
        provenance = read_provenance(path)
    except InputError as error:
        return Check(name, False, str(error))
    if provenance == UNKNOWN:
        return Check(name, True, "unknown provenance: not checked")
    fault = provenance.fault(parts(dataset, rules).train)
    return Check(name, fault is None, fault or f"made by {provenance.made_by} from {provenance.rows} rows")
