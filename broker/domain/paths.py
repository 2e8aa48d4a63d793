"""Paths into JSON values: `args.items[0].price`, `args["a.b"]`, and with wildcards `args.items[*].secret`.

What belongs here: the one grammar that conditions, sums and redaction share, and finding what a path leads to. What
does not: what is done with it (`broker.policy`, redaction).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

_PLAIN = re.compile(r"[\w$-]+")
_STEP = re.compile(
    r"""\.(?P<name>[\w$-]+) | \[(?P<index>\d{1,9})\] | \[(?P<quoted>"(?:[^"\\]|\\.)*")\] | \.\* | \[\*\]""", re.VERBOSE
)


class Every(Enum):
    """The step that leads to every member of an object and every item of an array."""

    EVERY = "*"


class Missing(Enum):
    """What a path leads to where there is nothing; null is something."""

    MISSING = "missing"


EVERY: Final = Every.EVERY
MISSING: Final = Missing.MISSING

Step = str | int | Every


@dataclass(frozen=True, slots=True)
class Path:
    """Steps from the outermost value inwards: a member's name, an item's index, or every one of them."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return written(*self.steps)

    def find(self, value: Any) -> Any:
        """What the path, which has no wildcard, leads to in `value`, or MISSING. Never raises."""
        for step in self.steps:
            if isinstance(step, str) and isinstance(value, Mapping):
                value = cast("Mapping[str, Any]", value).get(step, MISSING)
            elif isinstance(step, int) and isinstance(value, Sequence) and not isinstance(value, str):
                items = cast("Sequence[Any]", value)
                value = items[step] if step < len(items) else MISSING
            else:
                return MISSING
        return value

    def overlaps(self, other: Path) -> bool:
        """Whether one of the two leads to what the other leads to, or to a part of it."""
        return all(a == b or EVERY in (a, b) for a, b in zip(self.steps, other.steps, strict=False))


def parse_path(text: str) -> Path:
    """The path that `text` writes.

    Raises:
        ValueError: it is none; the message says what was expected and where.
    """
    first = _PLAIN.match(text)
    steps: list[Step] = [first[0]] if first is not None else []
    place = first.end() if first is not None else 0
    while place < len(text) or not steps:
        found = _STEP.match(text, place) if steps else None
        if found is None:
            raise ValueError(f'expected a path such as args.name, args.items[0] or args["a.b"] (character {place + 1})')
        steps.append(_step(found))
        place = found.end()
    return Path(tuple(steps))


def written(*steps: Step) -> str:
    """How a path is written. A name that would read as several steps is quoted: ``tools["a.b"].action``."""
    return "".join(_written(step) for step in steps).removeprefix(".")


def _step(found: re.Match[str]) -> Step:
    if (name := found["name"]) is not None:
        return name
    if (index := found["index"]) is not None:
        return int(index)
    if (quoted := found["quoted"]) is not None:
        return str(json.loads(quoted))
    return EVERY


def _written(step: Step) -> str:
    if step is EVERY:
        return "[*]"
    plain = isinstance(step, str) and _PLAIN.fullmatch(step)
    return f".{step}" if plain else f"[{json.dumps(step, ensure_ascii=False)}]"
