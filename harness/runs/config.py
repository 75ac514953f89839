"""Resolves and validates the configuration of a run.

Precedence, later wins: class defaults < the registry entry's preset < variant < profile < `--config` file < `--set`.
Errors name the key, its value, the expected value and the source. Settings are documented in the configuration classes.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.core import config_files
from harness.core.plugins import warn
from harness.errors import InputError, unknown_name
from harness.protocol.protocol import NAMES, Protocol
from harness.protocol.recommender import ModelConfig
from harness.registry import ModelEntry
from harness.store.record import TuningEffort

Layer = tuple[str, Mapping[str, Any]]
ConfigT = TypeVar("ConfigT", bound=BaseModel)
ABSENT = object()
PROFILES = ("auto", "smoke", "cpu", "gpu", "paper")
MAX_DEPTH = 16  # maximal depth of a key in `--set`
TOP_KEYS = ("model", "file", "dataset", "order", "data", "profile", "seed")  # of a file, besides its sections
TUNING = "tuning"  # the section of a configuration file that tells how its settings were chosen


def explain(error: ValidationError, section: str, model: type[BaseModel], layers: Sequence[Layer]) -> InputError:
    """An `InputError` for the first error of pydantic; `layers`: the sources, later ones win."""
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    names = [section, *map(str, location)]
    source = _source(names, layers)
    if first["type"] == "extra_forbidden":
        fields = _fields(model, location[:-1])
        # similar names are searched by the last part: with a common prefix all names would be similar
        hint = unknown_name("setting", names[-1], fields).hint if fields else "this section has no settings"
        return InputError(f"unknown setting {'.'.join(names)!r}", where=source, hint=hint)
    if first["type"] == "value_error":  # a validator of the configuration class
        return InputError(f"{'.'.join(names)}: {first.get('ctx', {}).get('error', first['msg'])}", where=source)
    return InputError(f"{'.'.join(names)} is {first['input']!r}, expected {_expected(first, model)}", where=source)


def _expected(entries: Mapping[str, Any], model: type[BaseModel]) -> str:
    """The expected kind of value, without pydantic's JSON terms."""
    if entries["type"] in ("tuple_type", "list_type"):
        return f"a list, such as [{entries['input']}]"
    if entries["type"] == "too_short":
        return f"a list of at least {entries['ctx']['min_length']}"
    if entries["type"] in ("model_type", "model_attributes_type"):
        return f"settings below it: {', '.join(_fields(model, entries['loc']))}"
    return entries["msg"].removeprefix("Input should be ")


def _source(names: Sequence[str], layers: Sequence[Layer]) -> str | None:
    """The last layer that sets this key, or else the section that it is in."""
    for depth in range(len(names), 1, -1):
        for label, layer in reversed(layers):
            if value_at(layer, names[:depth]) is not ABSENT:
                return label
    return None


def value_at(table: Any, path: Sequence[str]) -> Any:
    """The value under these keys of nested mappings; `ABSENT` if there is none."""
    for key in path:
        table = table.get(key, ABSENT) if isinstance(table, Mapping) else ABSENT
    return table


def _fields(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The settings of the (nested) configuration at `location`."""
    for name in location:
        field = model.model_fields.get(str(name))
        if field is None:  # a union's tag, or an index
            continue
        for choice in _choices(field.annotation):
            if isinstance(choice, type) and issubclass(choice, BaseModel):
                model = choice
    return list(model.model_fields)


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


@dataclass(frozen=True)
class Settings:
    """The resolved configuration, and the profile it came from (never `auto`)."""

    profile: str
    protocol: Protocol
    model: ModelConfig


@dataclass(frozen=True)
class ConfigFile:
    """A `--config` file: its keys about the run, its sections, and the study that chose them, if any."""

    path: Path | None = None
    top: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    effort: TuningEffort | None = None


def read_config(path: Path | None, entry: ModelEntry) -> ConfigFile:
    """Reads a configuration file and checks its outline for one model. Raises `InputError`."""
    if path is None:
        return ConfigFile()
    content = config_files.read(path)
    effort = _effort(content.pop(TUNING, None), f"{path}, {TUNING}")
    file_model = content.get("model")
    if isinstance(file_model, str) and file_model != entry.name:
        raise InputError(f"the file is for model {file_model!r}, not {entry.name!r}", where=path)
    if entry.former_section and entry.former_section in content:
        content[_current(entry.former_section, entry, str(path))] = content.pop(entry.former_section)
    literals = (*TOP_KEYS, *_sections(entry))
    for key in content:
        if key not in literals:
            raise unknown_name("section", key, literals, where=path)
    top = {key: content.pop(key) for key in TOP_KEYS if key in content}
    kinds: dict[str, type] = {**dict.fromkeys(TOP_KEYS, str), "seed": int, "data": dict}
    for key, value in top.items():
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            expected = {int: "an integer", dict: "a mapping"}.get(kinds[key], "text")
            raise InputError(f"{key} is {value!r}, expected {expected}", where=path)
    if isinstance(dataset := top.get("dataset"), str):
        top["dataset"] = config_files.relative_to_file(dataset, path)
    for section, values in content.items():
        if not isinstance(values, dict):
            raise InputError(f"section {section!r} is {values!r}, expected a mapping", where=path)
    return ConfigFile(path, top, content, effort)


def _effort(section: Any, location: str) -> TuningEffort | None:
    if section is None:
        return None
    try:
        return TuningEffort.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        message = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise InputError(message, where=location, hint="do not edit this section, which harness tune wrote") from error


def resolve(entry: ModelEntry, profile: str, file: ConfigFile, sets: Iterable[str]) -> Settings:
    """The settings of one run. `profile` is `auto` or a name; raises `InputError` for invalid settings."""
    config_class = entry.load().config_class
    profile = resolve_profile(profile, entry.name, config_class)
    layers: list[Layer] = [
        ("preset", {entry.section: dict(entry.preset)}),
        (f"profile {profile}", {entry.section: config_class.profiles.get(profile, {})}),
        (str(file.path), _placed(file, entry.section, config_class)),
        *((f"--set {text}", _one_set(text, entry)) for text in sets),
    ]
    merged = _merged(layers)
    if bundle := config_class.variants.get(str(merged[entry.section].get("variant"))):
        layers.insert(1, (f"variant {merged[entry.section]['variant']}", {entry.section: bundle}))
        merged = _merged(layers)

    protocol = _validated("protocol", Protocol, merged, layers)
    return Settings(profile, protocol, _validated(entry.section, config_class, merged, layers))


def _validated(section: str, model: type[ConfigT], merged: Mapping[str, Any], layers: Sequence[Layer]) -> ConfigT:
    """A section of the merged layers as its class. Raises `InputError`, which names the layer."""
    try:
        # JSON mode: strict validation there accepts a list for a tuple and text for an enumeration
        return model.model_validate_json(_finite(merged.get(section) or {}, section), strict=True)
    except ValidationError as error:
        raise explain(error, section, model, layers) from error


def file_overrides(entry: ModelEntry, profile: str, file: ConfigFile, device: str) -> tuple[str, ...]:
    """The sections of a configuration file as `--set` assignments, without those that equal the profile on
    this device."""
    sections = _placed(file, entry.section, entry.load().config_class)
    variant = (sections.get(entry.section) or {}).get("variant")
    first = () if variant is None else tuple(assignments({entry.section: {"variant": variant}}, {}))
    base = resolve(entry, profile, ConfigFile(), first)
    model = base.model.resolved(device)
    defaults = {"protocol": base.protocol.model_dump(mode="json"), entry.section: model.model_dump(mode="json")}
    if base.model == resolve(entry, profile, ConfigFile(), ()).model:
        first = ()
    return (*first, *assignments(sections, defaults))


def assignments(values: Mapping[str, Any], base: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The leaves of nested `values` that differ from `base`, as `key=value`, which `--set` parses.

    >>> list(assignments({"a": {"b": 1.0, "c": "1", "d": None}}, {"a": {"d": None}}))
    ['a.b=1', 'a.c="1"']
    """
    for key, value in values.items():
        default = base.get(key)
        if isinstance(value, Mapping) and (value or isinstance(default, Mapping)):
            yield from assignments(value, default if isinstance(default, Mapping) else {}, f"{prefix}{key}.")
        elif key not in base or value != default:
            yield f"{prefix}{key}={_argument(value)}"


def _argument(value: Any) -> str:
    """JSON, which is YAML; plain words without quotes."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum():
        return value if config_files.parse(value, "") == value else json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def _placed(file: ConfigFile, section: str, config_class: type[ModelConfig]) -> dict[str, Any]:
    """Sections of a file; relative paths in the model's section are relative to the file if they exist there."""
    sections = dict(file.sections)
    if file.path is not None and section in sections:
        sections[section] = _relative_to_file(sections[section], config_class, file.path.absolute().parent)
    return sections


def _relative_to_file(values: Mapping[str, Any], kind: type[BaseModel], folder: Path) -> dict[str, Any]:
    placed = dict(values)
    for name, value in values.items():
        field = kind.model_fields.get(name)
        inner = None if field is None else field.annotation
        if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, BaseModel):
            placed[name] = _relative_to_file(value, inner, folder)
        elif isinstance(value, str) and _is_path(inner) and (folder / value).exists():
            placed[name] = str(folder / value)
    return placed


def _is_path(kind: Any) -> bool:
    return kind is Path or any(map(_is_path, get_args(kind)))


def _finite(values: Any, section: str) -> str:
    """As JSON, without infinity and NaN, and with integers of 64 bits. Raises `InputError`."""
    if (size := _largest(values)) >= 2**63:
        raise InputError(f"a setting of {section} is {size}", hint="give an integer below 2^63")
    try:
        return json.dumps(values, default=str, allow_nan=False)
    except ValueError as error:
        message = f"a setting of {section} is infinite or not a number"
        raise InputError(message, hint="give a finite number") from error
    except TypeError as error:
        raise InputError(f"a key in {section} is not text", hint="write SECTION.KEY: VALUE") from error


def _largest(value: Any) -> int:
    """The largest absolute integer in plain values; 0 if there is none."""
    if isinstance(value, Mapping):
        return max(map(_largest, value.values()), default=0)
    if isinstance(value, (list, tuple)):
        return max(map(_largest, value), default=0)
    return abs(value) if isinstance(value, int) else 0


def protocol_sets(name: str | None) -> tuple[str, ...]:
    """`--protocol NAME` as `--set` assignments. Raises `InputError` for an unknown name."""
    if name is None:
        return ()
    if name not in (*NAMES, *(names.partition("/")[0] for names in NAMES)):
        raise unknown_name("protocol", name, NAMES, where="--protocol")
    return (f"protocol.name={name}",)


def resolve_protocol(sets: Iterable[str]) -> Protocol:
    """The protocol only, for external rankings."""
    layers: list[Layer] = [(f"--set {text}", _one_set(text, None)) for text in sets]
    return _validated("protocol", Protocol, _merged(layers), layers)


def resolve_profile(profile: str, model: str, config_class: type[ModelConfig]) -> str:
    """A profile of the model. `cpu` and `gpu` are the class defaults if the model does not define them; a model without
    profiles is the same under each."""
    from harness.runs.devices import cuda_available

    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES, where="--profile")
    if profile == "auto":
        return "gpu" if cuda_available() else "cpu"
    names = {"cpu", "gpu", *config_class.profiles}
    if config_class.profiles and profile not in names:
        raise InputError(
            f"{model} has no profile {profile!r}", where="--profile", hint=f"choose {', '.join(sorted(names))}"
        )
    return profile


def _sections(entry: ModelEntry | None) -> tuple[str, ...]:
    return ("protocol",) if entry is None else ("protocol", entry.section)


def _current(section: str, entry: ModelEntry | None, location: str) -> str:
    """The current name of the section."""
    if entry is None or section != entry.former_section:
        return section
    warn(f"{location}: the settings of {entry.name} are in the section {entry.section!r} now")
    return entry.section


def _one_set(text: str, entry: ModelEntry | None) -> dict[str, Any]:
    path, equals, value = text.partition("=")
    section, *keys = path.strip().split(".")
    if not equals or not keys or not all(keys) or len(keys) > MAX_DEPTH:
        raise InputError(f"{text!r} is not of the form section.key=value", where="--set")
    section = _current(section, entry, f"--set {text}")
    if section not in _sections(entry):
        raise unknown_name("section", section, _sections(entry), where=f"--set {text}")
    nested = config_files.parse(value, f"--set {text}")
    for key in reversed(keys):
        nested = {key: nested}
    return {section: nested}


def _merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """All layers merged; later ones win."""
    return reduce(_merge, (layer for _, layer in layers), {})


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
