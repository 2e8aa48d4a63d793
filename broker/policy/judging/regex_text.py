"""The common part of RE2's syntax, as a tree.

What belongs here: reading a pattern that RE2 has accepted already. What does not: searching (`patterns`)
and what the tree is read for (`automata`). What is rare is not read: a pattern with it is searched for in
less text. So this may be incomplete but never wrong (https://github.com/google/re2/wiki/Syntax).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from broker.policy.judging.characters import ANY, Spans, complement, holds, one, union


class Look(Enum):
    """What may be asked of a place between two characters."""

    START = "^"
    END = "$"
    EDGE = r"\b"
    INSIDE = r"\B"


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    spans: Spans


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these, the first that leads to a match."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """From `least` to `most` times (None: without end); `lazy`: as few as possible."""

    part: Node
    least: int
    most: int | None
    lazy: bool


Node = Look | Chars | Sequence | Choice | Repeat

_LINE_END = one("\n")
_DIGITS: Spans = ((0x30, 0x39),)
_WORD: Spans = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_BLANKS: Spans = ((0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20))
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _BLANKS}
_LOOKS = {"A": Look.START, "z": Look.END, "b": Look.EDGE, "B": Look.INSIDE}
_CONTROLS = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}

_GROUP = re.compile(r"\((?:\?P?<\w+>|\?(?P<flags>[is]*)(?P<scope>[:)]))?")
_REPEAT = re.compile(r"(?:[*+?]|\{(?P<least>\d+)(?P<comma>,(?P<most>\d*))?\})(?P<lazy>\??)", re.ASCII)
_HEX = re.compile(r"x(?:([0-9a-fA-F]{2})|\{([0-9a-fA-F]{1,6})\})")
_TIMES = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class Unread(ValueError):
    """The pattern has something that is not read here."""


def read_pattern(text: str) -> Node:
    """The tree of `text`, a pattern that RE2 accepts.

    Raises:
        Unread: it has something that is not read here.
    """
    reader = _Reader(text)
    node = reader.choice(frozenset())
    if reader.place < len(text):
        raise Unread
    return node


class _Reader:
    """Reads by recursive descent; the nesting is bounded."""

    def __init__(self, text: str) -> None:
        self.place = 0
        self._text = text
        self._depth = 0

    def choice(self, flags: frozenset[str]) -> Node:
        self._depth += 1
        if self._depth > 50:
            raise Unread
        parts: list[Node] = []
        while True:
            part, flags = self._sequence(flags)
            parts.append(part)
            if self._peek() != "|":
                break
            self.place += 1
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self, flags: frozenset[str]) -> tuple[Node, frozenset[str]]:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            group = _GROUP.match(self._text, self.place)
            if group is not None and group["scope"] == ")":  # flags from here on
                self.place, flags = group.end(), flags | frozenset(group["flags"])
            elif group is not None:
                self.place = group.end()
                inner = self.choice(flags | frozenset(group["flags"] or ""))
                self._take(")")
                parts.append(self._repeated(inner))
            else:
                parts.append(self._repeated(self._atom(flags)))
        return Sequence(tuple(parts)), flags

    def _repeated(self, part: Node) -> Node:
        found = _REPEAT.match(self._text, self.place)
        if found is None:
            if self._peek() == "{":  # RE2 takes it for itself where it is no count
                raise Unread
            return part
        self.place = found.end()
        if _REPEAT.match(self._text, self.place):
            raise Unread
        if found["least"] is None:
            least, most = _TIMES[found[0][0]]
        else:
            least = int(found["least"])
            most = least if found["comma"] is None else int(found["most"]) if found["most"] else None
        return Repeat(part, least, most, bool(found["lazy"]))

    def _atom(self, flags: frozenset[str]) -> Node:
        char = self._next()
        match char:
            case "^":
                return Look.START
            case "$":
                return Look.END
            case ".":
                return Chars(ANY if "s" in flags else complement(_LINE_END))
            case "[":
                return Chars(self._class(flags))
            case "(" | "*" | "+" | "?" | "{":
                raise Unread
            case "\\" if (look := _LOOKS.get(self._peek())) is not None:
                self.place += 1
                return look
            case "\\":
                return Chars(_folded(self._escape(), flags))
            case _:
                return Chars(_folded(one(char), flags))

    def _escape(self) -> Spans:
        """What follows a backslash, inside a class or not."""
        if found := _HEX.match(self._text, self.place):
            self.place = found.end()
            return one(chr(int(found[1] or found[2], 16)))
        char = self._next()
        if char.lower() in _CLASSES:
            spans = _CLASSES[char.lower()]
            return spans if char.islower() else complement(spans)
        if char in _CONTROLS:
            return one(_CONTROLS[char])
        if char.isalnum() or not char.isascii():
            raise Unread
        return one(char)

    def _class(self, flags: frozenset[str]) -> Spans:
        negated = self._peek() == "^"
        self.place += negated
        members = [self._member()]
        while self._peek() != "]":
            members.append(self._member())
        self.place += 1
        spans = _folded(union(members), flags)
        return complement(spans) if negated else spans

    def _member(self) -> Spans:
        first = self._member_end()
        if self._peek() != "-" or self._text[self.place + 1 : self.place + 2] == "]":
            return first
        self.place += 1
        last = self._member_end()
        return ((first[0][0], last[-1][1]),)

    def _member_end(self) -> Spans:
        char = self._next()
        if char == "[" and self._peek() == ":":
            raise Unread
        return self._escape() if char == "\\" else one(char)

    def _take(self, char: str) -> None:
        if self._next() != char:
            raise Unread

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise Unread
        self.place += 1
        return char

    def _peek(self) -> str:
        return self._text[self.place : self.place + 1]


def _folded(spans: Spans, flags: frozenset[str]) -> Spans:
    """`spans` with the other case of each letter, as RE2 folds it, where the flags ask for that."""
    if "i" not in flags:
        return spans
    if any(last > 0x7F for _, last in spans) and spans != ANY and not holds(spans, 0x10FFFF):
        raise Unread
    return union(
        [spans, *_other_cases(chr(point) for first, last in spans for point in range(first, min(last, 0x7F) + 1))]
    )


def _other_cases(chars: Iterable[str]) -> Iterator[Spans]:
    for char in chars:
        yield one(char.swapcase())
        if char in "kK":
            yield one("\u212a")  # the Kelvin sign
        if char in "sS":
            yield one("\u017f")  # the long s
