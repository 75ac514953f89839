"""The exceptions of the harness: input errors (exit code 2, one line) and internal errors (exit code 1).

`harness.cli.output` prints them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
MAX_QUOTED = 600  # characters of a file's content in an error message
SHOWN = 40  # names in the hint of an unknown name


class HarnessError(Exception):
    """Base class of all errors raised by the harness."""

    exit_code = 1


Code = Literal[
    "already-exists",
    "bad-file",
    "bad-line",
    "bad-plugin",
    "bad-selection",
    "bad-setting",
    "cannot-write",
    "check-failed",
    "conflicting-options",
    "duplicate",
    "empty-data",
    "incompatible",
    "invalid-input",
    "missing-column",
    "missing-file",
    "missing-package",
    "no-runs",
    "no-time-order",
    "not-available",
    "too-large",
    "unknown-name",
    "unreadable-file",
    "wrong-checksum",
]


class InputError(HarnessError):
    """The user's input is wrong: one line that says what, where, and how to correct it.

    `code` is the kind of error, for programs and tests; it stays the same where the wording changes.

    >>> str(InputError("timestamp 'x' is not a number", where="log.inter line 3", hint="give seconds since 1970"))
    "log.inter line 3: timestamp 'x' is not a number; give seconds since 1970"
    """

    exit_code = 2
    code: Code = "invalid-input"

    def __init__(
        self, what: str, *, where: str | Path | None = None, hint: str | None = None, code: Code | None = None
    ) -> None:
        what, where, hint = truncate(what), where and truncate(str(where)), hint and truncate(hint, 3 * MAX_QUOTED)
        self.what, self.where, self.hint = what, where, hint
        self.code = code or type(self).code
        line = f"{where}: {what}" if where else what
        super().__init__(" ".join((f"{line}; {hint}" if hint else line).split()))


def truncate(text: str, limit: int = MAX_QUOTED) -> str:
    """`text` with its middle left out where it is longer than `limit` characters.

    >>> truncate("abcdefghij", 5)
    'ab … ij'
    """
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def escape_control(text: str) -> str:
    r"""`text` with control characters escaped, so that the content of a file cannot control the terminal.

    >>> print(escape_control("a title \x1b[2J"))
    a title \x1b[2J
    """
    return CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def quote(value: object) -> str:
    """`repr` of a value from a file, truncated, for an error message."""
    try:
        return truncate(repr(value))
    except ValueError:  # Python formats no integer of more than 4,300 digits
        return "a number of too many digits"


class InvalidPredictions(HarnessError):
    """A recommender broke its contract: a missing user, a duplicate or unknown item. Never scored as a miss."""


class PeerLost(HarnessError):
    """Another process of a distributed run ended early."""


class AbortedByMain(HarnessError):
    """This process stops because the main process has reported an error; it prints nothing itself."""

    exit_code = 2


def unknown_name(
    kind: str, name: str, registered: Iterable[str], *, where: str | Path | None = None, otherwise: str | None = None
) -> InputError:
    """The error for a name that is not registered. Its hint lists the closest registered names, or the first
    `SHOWN` where none is close, followed by `otherwise`.

    >>> str(unknown_name("model", "markow", ["markov", "mostpop"]))
    "unknown model 'markow'; did you mean markov?"
    """
    names, hint = sorted(registered), ""
    if near := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        ellipsis = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
        hint = f"known: {', '.join(names[:SHOWN])}{ellipsis}"
    message = f"{hint} {otherwise or ''}".strip() if hint else (otherwise or "").strip("()")
    return InputError(f"unknown {kind} {name!r}", where=where, hint=message or None, code="unknown-name")
