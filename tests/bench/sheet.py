"""A table of numbers, for a terminal and for a page. What belongs here: its form. What does not: what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Sheet:
    """Lines under a head; the first `words` columns are words, the others numbers."""

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    words: int = 1

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(box=None, pad_edge=False)
        for number, name in enumerate(self.head):
            table.add_column(name, justify="left" if number < self.words else "right", no_wrap=True)
        for line in self.lines:
            table.add_row(*line)
        return table

    def markdown(self) -> str:
        """For a page."""
        rule = ["---"] * self.words + ["---:"] * (len(self.head) - self.words)
        return "".join(f"| {' | '.join(line)} |\n" for line in (self.head, rule, *self.lines))


def short(number: float | None) -> str:
    """Three digits of it."""
    return "?" if number is None else f"{number:,.0f}" if number >= 100 else f"{number:#.3g}"
