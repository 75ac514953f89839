"""What tells rows of one model apart: the settings in which their stored configurations differ.

A setting that more than half of the rows share goes without saying in their notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.store.run_store import StoredRun

NOT_THE_MODELS = ("protocol.", "tuning.")  # the board's, and the study's that chose the settings
SHOWN = 3  # settings that a note names before it only counts


def config_differences(groups: Sequence[Sequence[StoredRun]]) -> list[str]:
    """One note a group (runs that differ by seed only); empty where its model has no other group, and where all of its
    settings are those of most rows."""
    models: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        models.setdefault(group[0].record.model, []).append(number)
    messages = [""] * len(groups)
    for rivals in models.values():
        if len(rivals) == 1:
            continue
        results = settings([groups[number][0] for number in rivals])
        keys = dict.fromkeys(key for one in results for key in one)
        reference = {key: _usual([one.get(key) for one in results]) for key in keys}
        for number, own in zip(rivals, results, strict=True):
            messages[number] = _note({key: value for key, value in own.items() if value != reference[key]})
    return messages


def _usual(values: Sequence[str | None]) -> str | None:
    """The value of more than half of the rows, if there is one."""
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _note(telling: dict[str, str]) -> str:
    labels = [f"{key.partition('.')[2] or key}={value}" for key, value in list(telling.items())[:SHOWN]]
    return ", ".join([*labels, f"and {len(telling) - SHOWN} more settings"] if len(telling) > SHOWN else labels)


def settings(runs: Sequence[StoredRun]) -> list[dict[str, str]]:
    """The flattened configuration of each run, as text; what cannot be read is left out."""
    pattern: _Pattern | None = None
    results = []
    for run in runs:
        flat = {"profile": run.record.profile, "code_version": run.record.env.code_version}
        try:
            text = run.folder.config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            results.append(flat)
            continue
        known_by_name = None if pattern is None else pattern.read(text)
        if known_by_name is None:
            pattern = _Pattern(text)
            known_by_name = pattern.flat
        results.append(flat | known_by_name)
    return results


class _Pattern:
    """A configuration that others are read by: where a text differs from it in single values alone, as variants of one
    model do, these values are all that has to be looked at."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.names: dict[int, str] = {}  # line number → the setting whose value it holds
        self.flat = flattened(text, self.names)

    def read(self, text: str) -> dict[str, str] | None:
        """`flattened(text)`; None where more than single values differ."""
        lines = text.splitlines()
        if len(lines) != len(self.lines):
            return None
        changed = {}
        for number, (own_value, other) in enumerate(zip(self.lines, lines, strict=True)):
            if own_value == other:
                continue
            (key, _, _), (own, _, value) = own_value.partition(": "), other.partition(": ")
            if key != own or number not in self.names or not value.strip():
                return None
            changed[self.names[number]] = value.strip().strip("'")
        return self.flat | {name: value for name, value in changed.items() if name in self.flat}


def flattened(text: str, names: dict[int, str] | None = None) -> dict[str, str]:
    r"""The settings of a configuration as the harness writes it, `section.key` to the text of its value, those of
    the model alone. Thousands are read for one leaderboard: a YAML parser takes a hundred times as
    long, and what is told apart here is only shown. `names` takes the number of each line that holds a whole value.

    >>> flattened("seed: 1\nfake:\n  lr_factor: 0.1\n  layer:\n    width: 4\n  levels:\n  - 1\n  - 2\n")
    {'fake.rate': '0.1', 'fake.layer.width': '4', 'fake.levels': '[1, 2]'}
    """
    above: list[tuple[int, str]] = []  # the keys that the current line stands under, with their indents
    flat: dict[str, str] = {}
    for number, line in enumerate(text.splitlines()):
        entry = line.strip()
        indent = len(line) - len(line.lstrip())
        if entry.startswith("- ") and above:
            name = _name(above)
            flat[name] = f"{flat[name][:-1]}, {entry[2:]}]" if name in flat else f"[{entry[2:]}]"
            continue
        key, colon, value = entry.partition(":")
        if not colon or key.startswith(("#", "{", "-", '"')):
            continue
        while above and above[-1][0] >= indent:
            above.pop()
        above.append((indent, key))
        if value.strip():
            name = _name(above)
            flat[name] = value.strip().strip("'")
            if names is not None:
                names[number] = name
    return {name: value for name, value in flat.items() if "." in name and not name.startswith(NOT_THE_MODELS)}


def _name(above: Sequence[tuple[int, str]]) -> str:
    return ".".join(key for _, key in above)
