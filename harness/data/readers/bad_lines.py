"""Invalid lines of a file: up to a limit they are dropped, counted and reported; more are an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.data.reading import Reading
from harness.errors import InputError

EXAMPLES = 2
STOP_AT, STOP_SHARE = 1000, 10  # so many wrong lines, and so many times the tolerated share, end the reading at once


@dataclass
class BadLines:
    """The wrong lines of one file. `name` is how notes call the file."""

    name: str
    reading: Reading = field(default_factory=Reading)
    count: int = 0
    _first: list[InputError] = field(default_factory=list)

    def add(self, error: InputError, lines: int = 0) -> None:
        """Takes down a wrong line, `lines` having been read so far (0: not known). Raises the error itself where no
        line may be wrong, or where far too many are."""
        self.count += 1
        if len(self._first) < EXAMPLES:
            self._first.append(error)
        share = self.reading.bad_lines
        if not share or (self.count >= STOP_AT and lines and self.count > STOP_SHARE * share * lines):
            self.settle(lines or self.count)

    def add_all(self, errors: Iterable[InputError]) -> None:
        """Takes down wrong lines."""
        for error in errors:
            self.add(error)

    def join(self, other: BadLines) -> None:
        """Takes over the wrong lines of another file of the same data set."""
        self._first = (self._first + other._first)[:EXAMPLES]
        self.count += other.count

    def settle(self, lines: int) -> tuple[str, ...]:
        """A note on what was left out of `lines` lines; none where nothing was. Raises `InputError`, that of the first
        wrong line, where it is more than may be."""
        if not self.count:
            return ()
        first = self._first[0]
        if self.count > self.reading.tolerated(lines):
            raise InputError(self._what(lines), where=first.where, hint=self._hint(lines), code=first.code)
        text = "; ".join(f"{error.where}: {error.what}" for error in self._first)
        value = ", …" if self.count > len(self._first) else ""
        return (f"{self.name}: {self.count:,} of {lines:,} lines are wrong and left out ({text}{value})",)

    def _what(self, lines: int) -> str:
        message = self._first[0].what
        if self.count == 1 and not self.reading.bad_lines:
            return message
        return f"{message} ({self.count:,} of {lines:,} lines are wrong, {self.reading.tolerated(lines):,} may be)"

    def _hint(self, lines: int) -> str | None:
        hint = self._first[0].hint
        if self.count == lines or not lines or not self.reading.bad_lines:
            return hint
        share = min(0.99, -(-100 * self.count // lines) / 100)
        return f"{hint + '; ' if hint else ''}or leave such lines out with --bad-lines {share:g}"
