"""Public releases and their data sets: `releases.yaml` and `sets.yaml` as values, and their names.

Names, files and published counts of releases are data; this module reads no raw files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from harness.core import config_files
from harness.errors import unknown_name

PLAIN = "amazon2018"  # the release that a bare category name means: `Gift_Cards` is `amazon2018:Gift_Cards`


@dataclass(frozen=True)
class RawFile:
    """A published file of a release. `file` and `urls` hold `{category}`.

    `format` of its lines: `csv` (with or without a header), `colons` (parted by `::`), `json` or
    `literal` (one JSON object, or one Python literal, a line). `fields` maps our names to the release's; `extra` are
    fields that are text too, and go into the description.
    """

    file: str
    format: Literal["csv", "colons", "json", "literal"]
    folders: tuple[str, ...] = ("",)
    urls: tuple[str, ...] = ()
    archive: str = ""
    columns: tuple[str, ...] = ()
    header: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    unit: float = 1.0
    encoding: str = "utf-8"
    marks: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def field_name(self, kind: str) -> str:
        """The release's name of one of our fields."""
        return self.fields.get(kind, kind)


@dataclass(frozen=True)
class Checksum:
    """The expected content of a file of this name: bytes (None where only the hash is known) and SHA-256."""

    sha256: str
    bytes: int | None = None


@dataclass(frozen=True)
class Release:
    """A public release: the published order of steps, and its files in order of preference."""

    key: str
    title: str
    homepage: str
    licence: str
    ties: Literal["hash", "file"]
    dedupe: bool
    with_metadata: bool
    core: int
    between: tuple[str, str]
    categories: tuple[str, ...]
    interactions: tuple[RawFile, ...]
    metadata: tuple[RawFile, ...]
    rating_above: float | None = None
    window: tuple[str, str] | None = None
    known: Mapping[str, Checksum] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Published counts of one data set; `rounded` is the unit to which each was rounded (1 where not stated)."""

    source: str
    users: int | None = None
    items: int | None = None
    interactions: int | None = None
    mean_length: float | None = None
    rounded: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RawSet:
    """The data set that `harness data prepare NAME` builds. `since` and `until` are dates that replace the release's
    window."""

    name: str
    release: Release
    category: str
    published: tuple[Published, ...] = ()
    listed: bool = True
    since: str | None = None
    until: str | None = None

    @property
    def title(self) -> str:
        plain = self.category.replace("_", " ")
        title = f"{self.release.title}, {plain}" if len(self.release.categories) > 1 else self.release.title
        return f"{title}, {self.since} to {self.until}" if self.since else title

    @property
    def how_to_get(self) -> str:
        """The hint, one line, if none of its files is present."""
        specs = (self.release.interactions[0], self.release.metadata[0])
        required = " and ".join(spec.file.format(category=self.category) for spec in specs)
        if specs[0].urls:
            return f"harness data prepare {self.name} downloads it (with --raw DIR: from {required} in DIR)"
        return f"harness data prepare {self.name} --raw DIR, where {required} lie in DIR (from {self.release.homepage})"


@cache
def releases() -> dict[str, Release]:
    """Every release, by key."""
    return {key: _release(key, entry) for key, entry in _table("releases.yaml").items()}


@cache
def named_sets() -> dict[str, RawSet]:
    """The data sets that have a name of their own (every other category goes by `RELEASE:CATEGORY`)."""
    entries = {}
    for name, entry in _table("sets.yaml").items():
        published = tuple(Published(**row) for row in entry.pop("published", ()))
        entries[name] = RawSet(name, releases()[entry.pop("release")], published=published, **entry)
    return entries


def resolve(name: str) -> RawSet:
    """The data set of a name: one of `named_sets`, `RELEASE:CATEGORY`, or a full category name of Amazon Reviews 2018.

    >>> resolve("amazon2018:Musical_Instruments").name, resolve("Gift_Cards").name
    ('instruments', 'amazon2018-Gift_Cards')

    Raises `InputError` with near names for anything else.
    """
    if name in named_sets():
        return named_sets()[name]
    key, pieces, category = name.partition(":" if ":" in name else "-")
    if key not in releases():
        key, pieces, category = PLAIN, "", name
    release = releases()[key]
    if category in release.categories:
        for raw_set in named_sets().values():
            if (raw_set.release.key, raw_set.category, raw_set.since) == (key, category, None):
                return raw_set
        return RawSet(f"{key}-{category}", release, category)
    if pieces:
        raise unknown_name(f"category of {release.title}", category, release.categories)
    raw_set = [*named_sets(), *releases()[PLAIN].categories]
    raw_set += [f"{other.key}:{listed}" for other in releases().values() for listed in other.categories]
    otherwise = "(or RELEASE:CATEGORY, with the category's full name, as in amazon2023:Video_Games)"
    raise unknown_name("public data set", name, raw_set, otherwise=otherwise)


def _release(key: str, entry: dict[str, Any]) -> Release:
    for kind in ("interactions", "metadata"):
        entry[kind] = [RawFile(**_frozen(file)) for file in entry[kind]]
    entry["known"] = {name: Checksum(**stated) for name, stated in entry.get("known", {}).items()}
    return Release(key=key, **_frozen(entry))


def _frozen(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


def _table(name: str) -> dict[str, Any]:
    return config_files.parse(files("harness.data.raw").joinpath(name).read_text(encoding="utf-8"), name)
