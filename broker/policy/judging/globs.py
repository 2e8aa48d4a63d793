"""Names of tools and globs: which entry of a policy counts for a tool.

What belongs here: matching, which of two globs is closer, and whether two can match the same name. What does not: what
an entry says.

A glob is `*` (any characters), `?` (any one), `[ab]`, `[a-z]` (one of these), `[!ab]` (any other one) and characters
that stand for themselves; case counts.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, combinations, groupby

from broker.policy.judging.characters import ANY, Spans, complement, one, overlap, union

_LONGEST = 256  # characters of a name that the gateway takes

_PIECE = re.compile(r"\*|\?|\[(?P<other>!)?(?P<members>[^\[\]]+)\]|(?P<literal>[^*?\[])", re.DOTALL)


def is_glob(text: str) -> bool:
    """Whether `text` is a glob rather than one name."""
    return any(char in text for char in "*?[")


@dataclass(frozen=True, slots=True)
class Glob:
    """A parsed glob.

    Args:
        text: as it was written.
        singles: what matches one character each, in order.
        loops: bit `i` is set when any number of other characters may stand before `singles[i]` (or at the end).
        rank: lower is closer: fewer than others are the literal characters negated, then the wildcards.
    """

    text: str
    singles: tuple[Spans, ...]
    loops: int
    rank: tuple[int, int]
    _edges: tuple[int, ...] = field(repr=False, compare=False)
    """Where characters begin that the singles do not tell apart."""
    _accepting: tuple[int, ...] = field(repr=False, compare=False)
    """For each edge: bit `i` is set when `singles[i]` matches the characters from there on."""

    def matches(self, name: str) -> bool:
        """Whether the glob matches the whole of `name`; linear in its length, whatever characters it has."""
        states = 1  # bit i is set when the first i singles have matched what was read
        for char in name:
            accepting = self._accepting[bisect_right(self._edges, ord(char)) - 1]
            states = (states & accepting) << 1 | states & self.loops
            if not states:
                return False
        return bool(states >> len(self.singles) & 1)

    def meets(self, other: Glob) -> bool:
        """Whether some name is matched by both: a walk through the product of the two."""
        goal, waiting, seen = (len(self.singles), len(other.singles)), [(0, 0)], {(0, 0)}
        while waiting:
            here = waiting.pop()
            if here == goal:
                return True
            fresh = [pair for pair in self._steps(other, *here) if pair not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        return False

    def _steps(self, other: Glob, a: int, b: int) -> Iterator[tuple[int, int]]:
        """Where one more character can lead: both move on, or one does and the other's `*` takes it."""
        mine, theirs = a < len(self.singles), b < len(other.singles)
        if mine and theirs and overlap(self.singles[a], other.singles[b]):
            yield a + 1, b + 1
        if mine and other.loops >> b & 1:
            yield a + 1, b
        if theirs and self.loops >> a & 1:
            yield a, b + 1


def parse_glob(text: str) -> Glob:
    """The glob that `text` writes.

    Raises:
        ValueError: it writes none; the message says why.
    """
    singles: list[Spans] = []
    loops = literals = wildcards = place = 0
    while place < len(text):
        found = _PIECE.match(text, place)
        if found is None:
            raise ValueError(f"the [ at character {place + 1} does not begin a set such as [ab], [a-z] or [!ab]")
        place = found.end()
        literals += found["literal"] is not None
        wildcards += found["literal"] is None
        if found[0] == "*":
            loops |= 1 << len(singles)
        else:
            singles.append(_spans(found))
    if len(singles) > _LONGEST:
        raise ValueError(f"a tool's name has at most {_LONGEST} characters, and no such name matches this")
    edges, accepting = _table(singles)
    return Glob(text, tuple(singles), loops, (-literals, wildcards), edges, accepting)


def _table(singles: list[Spans]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What `Glob` looks up for each character of a name, so that no name is slower than another."""
    changes = {0: 0}
    for at, spans in enumerate(singles):
        for first, last in union([spans]):
            for edge in (first, last + 1):
                changes[edge] = changes.get(edge, 0) ^ 1 << at
    edges = sorted(changes)
    return tuple(edges), tuple(accumulate((changes[edge] for edge in edges), int.__xor__))


def ties(globs: Iterable[Glob]) -> Iterator[tuple[Glob, Glob]]:
    """Every two globs of which neither is closer, although both match some name."""
    for _, equals in groupby(sorted(globs, key=lambda glob: glob.rank), key=lambda glob: glob.rank):
        yield from ((a, b) for a, b in combinations(equals, 2) if a.meets(b))


def _spans(found: re.Match[str]) -> Spans:
    if (literal := found["literal"]) is not None:
        return one(literal)
    if (members := found["members"]) is None:
        return ANY
    spans = tuple(sorted(_members(members)))
    return complement(spans) if found["other"] else spans


def _members(members: str) -> Iterator[tuple[int, int]]:
    for first, last in re.findall(r"(.)(?:-(.))?", members, re.DOTALL):
        if last and last < first:
            raise ValueError(f"the range {first}-{last} is the wrong way round")
        yield ord(first), ord(last or first)
