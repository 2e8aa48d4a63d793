"""Text from agents, servers and people, made visible: what the eye misses or misreads is an escape.

What belongs here: JSON values as readable text, marked for HTML. What does not: which characters hide
(`broker.domain.text`), pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from markupsafe import Markup, escape

from broker.domain.text import escape as escape_character
from broker.domain.text import is_hidden

_PROTOCOL = "io.modelcontextprotocol/"
_LAYOUT = frozenset("\n\t")
_WITHOUT_LAYOUT = str.maketrans("", "", "\n\t")
_TELLING = (
    *("command", "cmd", "script", "code", "sql", "query", "path", "file", "url", "uri", "target", "to", "recipient"),
    *("message", "text", "body", "subject", "title", "name", "branch", "id"),
)
_LINE = 200
_NAME = 24
_LONG = 1000


def visible(text: object) -> Markup:
    """`text` for HTML: hidden characters as escapes that are marked, so that they differ from a typed ``\\u202e``."""
    given = str(text)
    if given.isascii() and given.translate(_WITHOUT_LAYOUT).isprintable():
        return escape(given)
    pieces: list[Markup] = []
    for hidden, run in groupby(given, _is_hidden):
        piece = "".join(escape_character(char) if hidden else char for char in run)
        pieces.append(Markup('<b class="hidden-character">{}</b>').format(piece) if hidden else escape(piece))
    return Markup("").join(pieces)


def clipped(text: str, most: int = 64) -> str:
    """The beginning of `text`, for a line in a list."""
    return text if len(text) <= most else f"{text[:most]}…"


def _is_hidden(char: str) -> bool:
    return char not in _LAYOUT and is_hidden(char)


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
    return Telling(name if len(name) <= _NAME else name[:_NAME] + "…", short, len(given) - 1)


def _candidates(given: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in _TELLING if name in given)
    yield from (name for name, value in given.items() if isinstance(value, str) and value)
    yield from given


def sizes(arguments: Mapping[str, Any]) -> str | None:
    """What a reader is told before long arguments: how many, each with its name and length. None of short ones."""
    lengths = {name: len(shown(value).text) for name, value in arguments.items()}
    if sum(lengths.values()) <= _LONG:
        return None
    each = "; ".join(f"{name}, {length:,} character{'' if length == 1 else 's'}" for name, length in lengths.items())
    return f"{len(lengths)} argument{'' if len(lengths) == 1 else 's'}: {each}"


def answer_parts(result: Any) -> list[Shown]:
    """A tool's result for readers: plain texts as text, whatever else it says as JSON; not what is only protocol."""
    if not isinstance(result, Mapping):
        return [shown(result)]
    given = dict(cast("Mapping[str, Any]", result))
    content = given.get("content")
    if not isinstance(content, list):
        return [shown(given)]
    del given["content"]
    if given.get("isError") is False:
        del given["isError"]
    if given.get("resultType") == "complete":
        del given["resultType"]
    meta = given.get("_meta")
    if isinstance(meta, Mapping) and all(key.startswith(_PROTOCOL) for key in cast("Mapping[str, Any]", meta)):
        del given["_meta"]
    blocks = [shown(_plain_text(block)) for block in cast("list[Any]", content)]
    return [*blocks, shown(given)] if given else blocks


def _plain_text(block: Any) -> Any:
    match block:
        case {"type": "text", "text": text, **rest} if not rest:
            return text
        case _:
            return block
