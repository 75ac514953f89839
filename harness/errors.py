"""The errors that a user may meet, and nothing else.

Owns the distinction between the user's mistake (exit code 2, one clear line) and a fault of the program (exit code 1).
How an error is printed is the command line's business.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST = 600  # characters of what an error says of a file's content


class HarnessError(Exception):
    """Base of every error that the harness raises on purpose."""

    exit_code = 1


class InputError(HarnessError):
    """The user's input is wrong: says what, where, and how to mend it, in one line.

    >>> str(InputError("timestamp 'x' is not a number", where="log.inter line 3", hint="give seconds since 1970"))
    "log.inter line 3: timestamp 'x' is not a number; give seconds since 1970"
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        what, where, hint = truncate(what), where and truncate(where), hint and truncate(hint, 3 * LONGEST)
        self.what, self.where, self.hint = what, where, hint
        line = f"{where}: {what}" if where else what
        super().__init__(" ".join((f"{line}; {hint}" if hint else line).split()))


def truncate(text: str, limit: int = LONGEST) -> str:
    """A text that may quote a file, in a length that a person reads: its middle is left out.

    >>> truncate("abcdefghij", 5)
    'ab … ij'
    """
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def escape_control(text: str) -> str:
    r"""Text out of a file, as a terminal may get it: control characters are written out, so that they steer nothing.

    >>> print(escape_control("a title \x1b[2J"))
    a title \x1b[2J
    """
    return CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def quote(value: object) -> str:
    """A value out of a file, as it is quoted in an error."""
    try:
        return truncate(repr(value))
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of too many digits"


class InvalidPredictions(HarnessError):
    """A recommender broke its contract (a missing user, a duplicate or unknown item): a fault, never a lower score."""


class PeerLost(HarnessError):
    """Another of the processes that make a run together has ended before its time."""


class AbortedByMain(HarnessError):
    """This process stops because the first has said why the run cannot go on: nothing is left to say."""

    exit_code = 2


def unknown_name(
    kind: str, name: str, names_value: Iterable[str], *, where: str | None = None, otherwise: str | None = None
) -> InputError:
    """The error for a name that is not registered, with the nearest registered ones (and `otherwise`) as the mend;
    with `otherwise` alone where none is.

    >>> str(unknown_name("model", "markow", ["markov", "mostpop"]))
    "unknown model 'markow'; did you mean markov?"
    """
    names = sorted(names_value)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}" if names else ""
    message = " ".join(filter(None, (hint, otherwise)))
    return InputError(f"unknown {kind} {name!r}", where=where, hint=message or None)
