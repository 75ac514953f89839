"""Words for a setting that does not fit: which key, what it holds, what is expected, and where it came from."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.errors import InputError, unknown_name

Layer = tuple[str, Mapping[str, Any]]


def explain(error: ValidationError, section: str, model: type[BaseModel], layers: Sequence[Layer]) -> InputError:
    """One `InputError` for the first thing that pydantic found; `layers` are the sources, later ones win."""
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    names = [section, *map(str, location)]
    where = _source(names, layers)
    if first["type"] == "extra_forbidden":
        known = _fields(model, location[:-1])
        # near names are sought among the bare names, because what is before the last dot makes all of them near
        mend = unknown_name("setting", names[-1], known).mend if known else "there is nothing to set here"
        return InputError(f"unknown setting {'.'.join(names)!r}", where=where, mend=mend)
    if first["type"] == "value_error":  # a rule between settings, in the configuration class's own words
        return InputError(f"{'.'.join(names)}: {first.get('ctx', {}).get('error', first['msg'])}", where=where)
    return InputError(f"{'.'.join(names)} is {first['input']!r}, expected {_expected(first, model)}", where=where)


def _expected(found: Mapping[str, Any], model: type[BaseModel]) -> str:
    """In the user's words, where pydantic speaks of JSON."""
    if found["type"] in ("tuple_type", "list_type"):
        return f"a list, such as [{found['input']}]"
    if found["type"] == "too_short":
        return f"a list of at least {found['ctx']['min_length']}"
    if found["type"] in ("model_type", "model_attributes_type"):
        return f"settings below it: {', '.join(_fields(model, found['loc']))}"
    return found["msg"].removeprefix("Input should be ")


def _source(names: Sequence[str], layers: Sequence[Layer]) -> str | None:
    """The last layer that says anything about this key."""
    for depth in range(len(names), 1, -1):
        for label, layer in reversed(layers):
            if _holds(layer, names[:depth]):
                return label
    return None


def _holds(layer: Any, names: Sequence[str]) -> bool:
    for name in names:
        if not isinstance(layer, Mapping) or name not in layer:
            return False
        layer = layer[name]
    return True


def _fields(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The settings of the (nested) configuration at `location`."""
    for name in location:
        field = model.model_fields.get(str(name))
        if field is None:  # the name of a union's branch, or an index
            continue
        for choice in _choices(field.annotation):
            if isinstance(choice, type) and issubclass(choice, BaseModel):
                model = choice
    return list(model.model_fields)


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
