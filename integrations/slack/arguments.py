"""What a call says, for a message: each argument with its name, as many and as much of them as a message has room for.

What belongs here: which values are lines and which are long texts, and how the room is shared. What does not: the rest
of the message (`messages`), making a text harmless (`text`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.domain.calls import Call
from broker.domain.text import LAYOUT, visible
from broker.domain.values import shown
from integrations.slack.blocks import Json, line, preformatted, text
from integrations.slack.text import Cut, cut, weight

ROOM = 5000
"""What the arguments of a call may weigh together, each with `_AROUND` for what Block Kit puts around it."""

LONGEST = 2800
"""What one text may weigh: Slack documents 3,000 for each, and more than that is a wall."""

MOST_LINES = 30
"""Lines of one text."""

SHORT = 100
"""What a value may weigh that stands on the line of its name."""

_AROUND = 320
_NAME = 80


@dataclass(frozen=True, slots=True)
class Values:
    """Named values as parts of rich text, and whether anything was left out of them."""

    parts: tuple[Json, ...]
    shortened: bool


def named_values(values: Mapping[str, Any], room: int = ROOM) -> Values:
    """`values` in their order, as many and as much of them as there is room for."""
    names, texts, room = _first(values, room)
    beginnings = _beginnings(texts, room)
    parts = [part for name, given in zip(names, beginnings, strict=True) for part in _value(name, given)]
    more = len(values) - len(names)
    if more:
        parts.append(_left_out(more, "value"))
    shortened = more > 0 or any(each.missing for each in (*names, *beginnings))
    if shortened:
        parts.append(line(text("The whole is in the thread and on the card.", "italic")))
    return Values(tuple(parts), shortened)


def whole(call: Call) -> str:
    """All that `call` says, for a file: hidden characters are escapes there, too."""
    title = f"{visible(call.tool)} on {visible(call.upstream)} for {visible(call.grant.label)}"
    return "\n\n".join((title, *_in_full(call.named_arguments), *_in_full(call.beside, "sent along: "))) + "\n"


def _in_full(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    yield from (f"{before}{visible(name)}\n{visible(_text(value), LAYOUT)}" for name, value in values.items())


def _first(values: Mapping[str, Any], room: int) -> tuple[list[Cut], list[str], int]:
    """The names and texts of as many values as have room for a line each, and the room that is left for the texts."""
    names: list[Cut] = []
    texts: list[str] = []
    lines = 0
    for name, value in values.items():
        key, given = cut(name, _NAME), _text(value)
        lines += _AROUND + weight(key.text) + weight(cut(given, SHORT).text)
        if lines > room:
            break
        names.append(key)
        texts.append(given)
    return names, texts, room - sum(_AROUND + weight(key.text) for key in names)


def _beginnings(texts: Sequence[str], room: int) -> list[Cut]:
    """As much of each text as there is room for: what a shorter one leaves is for the longer ones."""
    found: dict[int, Cut] = {}
    for place in sorted(range(len(texts)), key=lambda each: len(texts[each])):
        share = room // (len(texts) - len(found))
        found[place] = cut(texts[place], min(share, LONGEST), MOST_LINES)
        room -= weight(found[place].text)
    return [found[place] for place in range(len(texts))]


def _value(name: Cut, given: Cut) -> Iterator[Json]:
    key = text(f"{name.text}…" if name.missing else name.text, "bold")
    if not given.missing and weight(given.text) <= SHORT and LAYOUT.isdisjoint(given.text):
        yield line(key, text(": "), text(given.text, "code"))
        return
    yield line(key)
    yield preformatted(given.text)
    if given.missing:
        yield _left_out(given.missing, "character")


def _left_out(number: int, what: str) -> Json:
    return line(text(f"… {number:,} more {what}{'' if number == 1 else 's'}", "italic"))


def _text(value: Any) -> str:
    """A value as it reads: short JSON on one line, and a text as JSON spells it if it could be taken for another."""
    if isinstance(value, str):
        return value if _reads_as_text(value) else json.dumps(value, ensure_ascii=False)
    on_one_line = json.dumps(value, ensure_ascii=False)
    return shown(value).text if cut(on_one_line, SHORT).missing else on_one_line


def _reads_as_text(value: str) -> bool:
    if len(value) > SHORT:
        return True
    try:
        json.loads(value)
    except ValueError:
        return bool(value) and value == value.strip()
    return False
