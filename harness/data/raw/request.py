"""`Request`: the options of `harness data prepare`, and those of them that determine the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.names import UNFIT
from harness.data.raw.filters import FILE_RULE, HASH_RULE
from harness.data.raw.interactions import instant
from harness.data.raw.releases import RawSet, Release
from harness.data.raw.text_cleaning import TextMode
from harness.data.reading import BAD_LINES
from harness.errors import InputError

RULES = 1  # of the steps of `prepare`: bumped, with a dated line here, by whatever can change their result


@dataclass(frozen=True)
class Request:
    """The options of the command. `tie_seed` None: the release's own tie rule. `since` and `until` are dates that take
    the place of the release's window; `bad_lines` is the share of lines that may be wrong."""

    name: str
    raw: Path | None = None
    tie_seed: int | None = None
    text: TextMode = "clean"
    since: str | None = None
    until: str | None = None
    bad_lines: float = BAD_LINES


def settings_of(data: RawSet, request: Request) -> dict[str, Any]:
    """Everything besides the raw files that determines the result: the release's steps, the tie rule, the text."""
    release = data.release
    seed = request.tie_seed if request.tie_seed is not None else (0 if release.ties == "hash" else None)
    return {
        "rules": RULES,
        "release": release.key,
        "category": data.category,
        "dedupe": release.dedupe,
        "with_metadata": release.with_metadata,
        "core": release.core,
        "rating_above": release.rating_above,
        "window": _window(data, request),
        "tie_seed": seed,
        "tie_rule": FILE_RULE if seed is None else HASH_RULE.format(seed=seed),
        "text": request.text,
        **({"extra_text": list(extra)} if (extra := _extra(release, request.text)) else {}),
    }


def _extra(release: Release, text: TextMode) -> tuple[str, ...]:
    """Further metadata fields that are appended to the description."""
    return tuple(sorted({field for spec in release.metadata for field in spec.extra})) if text == "clean" else ()


def _window(data: RawSet, request: Request) -> list[str] | None:
    """First and last time of the interactions that are used; None for all. Raises `InputError` for invalid dates, and
    if the first is after the last."""
    release, since, until = data.release, request.since or data.since, request.until or data.until
    if since is None and until is None:
        return list(release.window) if release.window else None
    first, last = since or release.between[0], until or release.between[1]
    for option, text in (("--since", first), ("--until", last)):
        try:
            instant(text)
        except ValueError as error:
            raise InputError(
                f"{text!r} is no date", where=option, hint="write 2018-01-31", code="bad-setting"
            ) from error
    if len(last) == len("2018-01-31"):
        last = f"{last} 23:59:59"  # the whole of the last day
    if instant(first) > instant(last):
        raise InputError(
            f"{first} lies behind {last}", where="--since", hint="give the earlier date first", code="bad-setting"
        )
    return [first, last]


def name_of(data: RawSet, request: Request) -> str:
    """The name of the data set; another tie order or text mode is part of it."""
    default = 0 if data.release.ties == "hash" else None
    ties = "" if request.tie_seed in (None, default) else f"-tie{request.tie_seed}"
    window = "".join(
        f"-{word}-{UNFIT.sub('', date)}" for word, date in (("from", request.since), ("to", request.until)) if date
    )
    return f"{data.name}{window}{ties}{'' if request.text == 'clean' else f'-{request.text}'}"
