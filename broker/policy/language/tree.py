"""A document as a tree of plain JSON values, and where each of them stands in the text.

What belongs here: building the tree from the events of a notation, and what no notation may say: keys that are written
twice or are no text, numbers that JSON has no way to write, depth. What does not: the notations (`json_text`,
`yaml_text`), what a document may say (`documents`).
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from broker.domain.canonical import MAX_DEPTH
from broker.domain.paths import Step, parse_path, written
from broker.errors import Finding

Steps = tuple[Step, ...]
"""The way to a value, from the outermost inwards."""

_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Place:
    """A character of the text: its line and its column, both from 1."""

    line: int
    column: int


class Kind(Enum):
    """What begins or ends at an event."""

    OBJECT = auto()
    ARRAY = auto()
    END = auto()
    SCALAR = auto()


@dataclass(frozen=True, slots=True)
class Event:
    """One step through a text. An object's keys and values come in turns; END closes the innermost object or array.

    Args:
        value: of a scalar.
        wrong: why this cannot stand in a document.
    """

    kind: Kind
    place: Place
    value: Any = None
    wrong: str | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """A document.

    Args:
        value: plain JSON, which has a canonical form.
        places: of every value, by the way to it: where its key stands (or itself, when it has none), and itself.
        mistakes: what readers could understand differently; the value holds one way to understand it.
    """

    value: Any
    places: Mapping[Steps, tuple[Place, Place]]
    mistakes: tuple[Finding, ...] = ()

    def finding(self, message: str, at: Steps | str, *, key: bool = False, nearest: str | None = None) -> Finding:
        """`message` at the value that a path leads to, or at its key; of what is not there, where it would be."""
        steps = parse_path(at).steps if isinstance(at, str) else at
        found = steps
        while found not in self.places:
            found = found[:-1]
        of_key, of_value = self.places[found]
        place = of_key if key and found == steps else of_value
        return Finding(message, written(*steps) if steps else "", place.line, place.column, nearest)


class Unreadable(ValueError):
    """A text is no document at all."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.finding = Finding(message, "", place.line, place.column)


class Lines:
    """The places of a text's characters."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(found.end() for found in _BREAK.finditer(text))]

    def place(self, offset: int) -> Place:
        """Where the character with this offset stands."""
        line = bisect_right(self._starts, offset)
        return Place(line, offset - self._starts[line - 1] + 1)


def build_tree(events: Iterable[Event]) -> Tree:
    """The tree of one document.

    Raises:
        Unreadable: it nests too deep, or an object or array is a key.
    """
    builder = _Builder(iter(events))
    value = builder.value(next(builder.events), ())
    for _ in builder.events:  # a notation may still find that the text goes on
        pass
    return Tree(value, builder.places, tuple(builder.mistakes))


class _Builder:
    def __init__(self, events: Iterator[Event]) -> None:
        self.events = events
        self.places: dict[Steps, tuple[Place, Place]] = {}
        self.mistakes: list[Finding] = []

    def value(self, event: Event, steps: Steps, key: Place | None = None) -> Any:
        self.places[steps] = (key or event.place, event.place)
        if event.wrong is not None:
            self._mistake(event.wrong, steps, event.place)
        if event.kind is Kind.SCALAR:
            return self._scalar(event, steps)
        if len(steps) >= MAX_DEPTH:
            raise Unreadable(f"nested more than {MAX_DEPTH} levels deep", event.place)
        return self._object(steps) if event.kind is Kind.OBJECT else self._array(steps)

    def _array(self, steps: Steps) -> list[Any]:
        items: list[Any] = []
        while (event := next(self.events)).kind is not Kind.END:
            items.append(self.value(event, (*steps, len(items))))
        return items

    def _object(self, steps: Steps) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while (event := next(self.events)).kind is not Kind.END:
            key = self._key(event, steps)
            if key in members:
                self._mistake("is written twice in one object: keep one of them", (*steps, key), event.place)
            members[key] = self.value(next(self.events), (*steps, key), event.place)
        return members

    def _key(self, event: Event, steps: Steps) -> str:
        if event.kind is not Kind.SCALAR:
            raise Unreadable("a key is a text, not an object or a list", event.place)
        key = self._scalar(event, steps)
        if event.wrong is not None:
            self._mistake(event.wrong, (*steps, str(key)), event.place)
        elif not isinstance(key, str):
            quoted = json.dumps(json.dumps(key))
            self._mistake(f"a key is a text: write it in quotes, {quoted}", (*steps, json.dumps(key)), event.place)
        return key if isinstance(key, str) else json.dumps(key)

    def _scalar(self, event: Event, steps: Steps) -> Any:
        match event.value:
            case str() as text:
                return self._text(text, steps, event.place)
            case float() as number if not math.isfinite(number):
                self._mistake("is no number that JSON can write: too large, infinite or NaN", steps, event.place)
                return None
            case value:
                return value

    def _text(self, text: str, steps: Steps, place: Place) -> str:
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")  # YAML escapes leave pairs in two halves
        except UnicodeDecodeError:
            self._mistake("holds half of a surrogate pair, which is no character", steps, place)
            return text.encode("ascii", "backslashreplace").decode()

    def _mistake(self, message: str, steps: Steps, place: Place) -> None:
        self.mistakes.append(Finding(message, written(*steps) if steps else "", place.line, place.column))
