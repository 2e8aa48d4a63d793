"""A JSON value as a tree that a page can hold: every member with its kind, shortened where it is too large.

What belongs here: what is shown of a value in a bounded number of bytes, and what is said of the rest. What does not:
markup around it (`templates/`), which texts are pictures (`broker.web.pictures`).

The room is divided evenly: what needs less leaves the rest to its neighbours, so that one large argument cannot push
the others off the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from markupsafe import Markup

from broker.web.pictures import Picture, picture
from broker.web.text import LEFT_OUT, clipped, cut, visible

MOST_MEMBERS = 200
"""Members of one object or list that are shown."""

MOST_PIXELS = 32_000_000
"""Of all pictures of one tree."""

_AROUND = 150
"""Bytes of HTML around one member, its name not among them."""

_LONGEST_NAME = 120
_FOLDED_BELOW = 3
_FOLDED_FROM = 6000
"""Bytes from which on an object or a list is folded, when it is deep."""

_CODE_ENDS = (*"{}()[];\\>", "):", "],", "},", "),")
_CODE_STARTS = ("    ", "\t", "#", "//", "--", "@", "+", "<", "import ", "def ", "SELECT ", "$ ")

_NONE = Markup()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value as it is shown.

    Args:
        kind: what it is, in words.
        html: a text, a number or the like; nothing of what has members, and of a picture.
        code: whether its lines are numbered.
        left_out: how many characters, members or items are not shown, in words.
        members: of an object or a list that is not empty, each with its name; a list's names are numbers.
        picture: what the text is, shown as pixels instead.
        open: whether its members are unfolded at first.
    """

    kind: str
    html: Markup = _NONE
    code: bool = False
    left_out: str = ""
    members: Sequence[tuple[Markup, Node]] = ()
    picture: Picture | None = None
    open: bool = True

    @property
    def whole(self) -> bool:
        """Whether all of it is shown, the names of members too."""
        return not self.left_out and all(LEFT_OUT not in name and node.whole for name, node in self.members)


def tree(value: Any, room: int) -> Node:
    """`value`, JSON, in about `room` bytes of HTML."""
    return _Tree().node(value, room, 0)


class _Tree:
    """One tree, and the pixels that it may still show."""

    def __init__(self) -> None:
        self._pixels = MOST_PIXELS

    def node(self, value: Any, room: int, depth: int) -> Node:
        """`value` in `room`, `depth` levels below the top."""
        if isinstance(value, str):
            return self._picture(value) or _text(value, room)
        if isinstance(value, dict | list) and value:
            return self._branch(cast("dict[str, Any] | list[Any]", value), room, depth)
        text = json.dumps(value)
        return _text(text, room, _PLAIN.get(text[0], "number"))

    def _picture(self, text: str) -> Node | None:
        found = picture(text)
        if found is None or found.width * found.height > self._pixels:
            return None
        self._pixels -= found.width * found.height
        kind = f"{found.form} picture, {found.width:,} by {found.height:,} pixels, {len(found.content):,} bytes"
        return Node(kind=kind, picture=found)

    def _branch(self, value: dict[str, Any] | list[Any], room: int, depth: int) -> Node:
        noun = "object" if isinstance(value, dict) else "list"
        members = [(cut(name, _LONGEST_NAME), inner) for name, inner in _members(value)]
        costs = [len(name) + _cost(inner, room) for name, inner in members]
        cost = sum(costs)
        if cost > room:
            members = members[: max(room, 0) // (2 * _AROUND)]
        shares = _shares(costs[: len(members)], room - _AROUND)
        nodes = [
            (name, self.node(inner, share - len(name), depth + 1))
            for (name, inner), share in zip(members, shares, strict=True)
        ]
        return Node(
            kind=f"{noun}, {_counted(len(value), _MEMBER[noun])}",
            left_out=_more(len(value) - len(nodes), _MEMBER[noun]),
            members=nodes,
            open=depth < _FOLDED_BELOW or cost < _FOLDED_FROM,
        )


def _members(value: dict[str, Any] | list[Any]) -> Iterator[tuple[object, Any]]:
    return islice(value.items() if isinstance(value, dict) else enumerate(value), MOST_MEMBERS)


def _text(text: str, room: int, kind: str | None = None) -> Node:
    code = kind is None and is_code(text)
    html, left_out = clipped(text, max(room - _AROUND, _AROUND), numbered=code)
    return Node(kind=kind or _kind_of_text(text, code), html=html, code=code, left_out=_more(left_out, "character"))


# -- room -------------------------------------------------------------------------------------------------------------


def _cost(value: Any, most: int) -> int:
    """About how many bytes of HTML `value` takes; it is looked at until that is more than `most`."""
    if isinstance(value, str):
        return _AROUND + _cost_of_text(value, most)
    cost = _AROUND
    if isinstance(value, dict | list):
        for name, inner in _members(cast("dict[str, Any] | list[Any]", value)):
            if cost > most:
                break
            cost += len(str(name)) + _cost(inner, most)
    return cost


def _cost_of_text(text: str, most: int) -> int:
    if picture(text) is not None:
        return 2 * _AROUND
    if len(text) > most:
        return len(text)
    return len(visible(text).encode()) + is_code(text) * (text.count("\n") + 1) * len("<i></i>")


def _shares(costs: Sequence[int], room: int) -> list[int]:
    """How `room` is divided: each gets what it costs, as far as an even share of what is left allows; and when all do,
    what is over is divided evenly."""
    shares = [0] * len(costs)
    in_order = sorted(range(len(costs)), key=costs.__getitem__)
    for nth, place in enumerate(in_order):
        shares[place] = min(costs[place], room // (len(costs) - nth))
        room -= shares[place]
    return [share + room // len(costs) for share in shares]


# -- kinds ------------------------------------------------------------------------------------------------------------

_MEMBER = {"object": "member", "list": "item"}

_PLAIN: Mapping[str, str] = {
    **dict.fromkeys("tf", "true or false"),
    **dict.fromkeys("-0123456789", "number"),
    "n": "null",
    "{": "object, empty",
    "[": "list, empty",
}
"""What a value without members is, by how its JSON begins."""


def _kind_of_text(text: str, code: bool) -> str:
    if not text:
        return "text, empty"
    lines = text.count("\n") + (not text.endswith("\n"))
    counted = f", {lines:,} lines" if lines > 1 else ""
    around = ", with white space around it" if text != text.strip() else ""
    return f"{'code' if code else 'text'}{counted}{around}"


def is_code(text: str) -> bool:
    """Whether `text` is better read with numbered lines: several, and a good part of them looks like a program's."""
    lines = [line for line in text.split("\n", MOST_MEMBERS)[:MOST_MEMBERS] if line.strip()]
    looks = sum(line.startswith(_CODE_STARTS) or line.rstrip().endswith(_CODE_ENDS) for line in lines)
    return len(lines) > 1 and 3 * looks >= len(lines)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _more(number: int, noun: str) -> str:
    return _counted(number, f"more {noun}") if number else ""
