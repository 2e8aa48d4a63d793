"""Text from agents, servers and people, made visible: what the eye misses or misreads is an escape.

What belongs here: single characters and JSON values as readable text. What does not: pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from markupsafe import Markup, escape

_LAYOUT = frozenset("\n\t\u3000")
_INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_TELLING = (
    *("command", "cmd", "script", "code", "sql", "query", "path", "file", "url", "uri", "target", "to", "recipient"),
    *("message", "text", "body", "subject", "title", "name", "branch", "id"),
)
_LINE = 200


def is_hidden(char: str) -> bool:
    """Whether `char` is a control, bidirectional, zero-width or otherwise invisible character, or an odd space."""
    if char in _LAYOUT:
        return False
    selector = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return not char.isprintable() or selector or char in _INVISIBLE_LETTERS


def escaped(text: str) -> str:
    """`text` with each hidden character as its escape, such as ``\\u202e``."""
    return "".join(_escape(char) if is_hidden(char) else char for char in text)


def visible(text: object) -> Markup:
    """`text` for HTML: hidden characters as escapes that are marked, so that they differ from a typed ``\\u202e``."""
    pieces: list[Markup] = []
    for hidden, run in groupby(str(text), is_hidden):
        piece = "".join(_escape(char) if hidden else char for char in run)
        pieces.append(Markup('<b class="hidden-character">{}</b>').format(piece) if hidden else escape(piece))
    return Markup("").join(pieces)


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


@dataclass(frozen=True, slots=True)
class Shown:
    """A JSON value for a reader: what kind it is, and its whole text. Not escaped for HTML."""

    kind: str
    text: str


def shown(value: Any) -> Shown:
    """`value` in full. A text keeps its line breaks; whatever is nested is indented JSON."""
    match value:
        case str():
            return Shown(_kind_of_text(value), value)
        case bool():
            return Shown("true or false", json.dumps(value))
        case int() | float():
            return Shown("number", json.dumps(value))
        case None:
            return Shown("null", "null")
        case _:
            kind = "object" if isinstance(value, Mapping) else "list"
            return Shown(kind, json.dumps(value, indent=2, ensure_ascii=False))


def _kind_of_text(text: str) -> str:
    if not text:
        return "text, empty"
    around = ", with white space around it" if text != text.strip() else ""
    return f"text{around}"


@dataclass(frozen=True, slots=True)
class Telling:
    """The one argument that says most of a call, on one line, and how many others there are."""

    name: str
    text: str
    others: int


def telling_argument(arguments: Any) -> Telling | None:
    """The argument for a line in a list: a known telling name, else the first text, else the first."""
    if not isinstance(arguments, Mapping) or not arguments:
        return None
    given = cast("Mapping[str, Any]", arguments)
    name = next(_candidates(given))
    line = " ".join(shown(given[name]).text.split())
    short = line if len(line) <= _LINE else line[:_LINE] + "…"
    return Telling(name, short, len(given) - 1)


def _candidates(given: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in _TELLING if name in given)
    yield from (name for name, value in given.items() if isinstance(value, str) and value)
    yield from given


def answer_parts(result: Any) -> list[Shown]:
    """A tool's result in full, for readers: its plain texts as text, whatever else there is as JSON."""
    if not isinstance(result, Mapping):
        return [shown(result)]
    given = dict(cast("Mapping[str, Any]", result))
    content = given.get("content")
    if not isinstance(content, list):
        return [shown(given)]
    del given["content"]
    blocks = [shown(_plain_text(block)) for block in cast("list[Any]", content)]
    return [*blocks, shown(given)] if given and given != {"isError": False} else blocks


def _plain_text(block: Any) -> Any:
    match block:
        case {"type": "text", "text": text, **rest} if not rest:
            return text
        case _:
            return block
