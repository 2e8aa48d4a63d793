"""Sets of characters: what globs and regular expressions match one character with.

What belongs here: sets of code points as spans, and their arithmetic. What does not: how they are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

LAST = 0x10FFFF
Spans = tuple[tuple[int, int], ...]
"""Code points from the first to the last of each pair, in order."""

ANY: Spans = ((0, LAST),)


def one(char: str) -> Spans:
    """The set of `char` alone."""
    return ((ord(char), ord(char)),)


def union(sets: Iterable[Spans]) -> Spans:
    """Every character of any of `sets`."""
    return complement(complement(tuple(sorted(span for spans in sets for span in spans))))


def complement(spans: Spans) -> Spans:
    """Every other character; `spans` may overlap and touch, but begin in order."""
    return tuple(_gaps(spans))


def holds(spans: Spans, point: int) -> bool:
    """Whether the character `point` is in the set."""
    return any(first <= point <= last for first, last in spans)


def overlap(a: Spans, b: Spans) -> bool:
    """Whether some character is in both sets."""
    return any(first <= other_last and other_first <= last for first, last in a for other_first, other_last in b)


def _gaps(spans: Spans) -> Iterator[tuple[int, int]]:
    start = 0
    for first, last in spans:
        if start < first:
            yield start, first - 1
        start = max(start, last + 1)
    if start <= LAST:
        yield start, LAST
