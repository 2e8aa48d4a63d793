"""JSON values of calls and answers as text for readers, wherever they read it.

What belongs here: from a value to its whole text, and which argument says most. What does not: what hides in a text
(`broker.domain.text`), markup, shortening.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

_PROTOCOL = "io.modelcontextprotocol/"
_TELLING = (
    *("command", "cmd", "script", "code", "sql", "query", "path", "file", "url", "uri", "target", "to", "recipient"),
    *("message", "text", "body", "subject", "title", "name", "branch", "id"),
)
_LINE = 200
_NAME = 24


@dataclass(frozen=True, slots=True)
class Shown:
    """A JSON value for a reader: what kind it is, and its whole text, with nothing escaped."""

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


def answer_values(result: Any) -> list[Any]:
    """What a tool's result says: plain texts as text, all else as it is; not what is only protocol."""
    if not isinstance(result, Mapping):
        return [result]
    given = dict(cast("Mapping[str, Any]", result))
    content = given.get("content")
    if not isinstance(content, list):
        return [given]
    del given["content"]
    if given.get("isError") is False:
        del given["isError"]
    if given.get("resultType") == "complete":
        del given["resultType"]
    meta = given.get("_meta")
    if isinstance(meta, Mapping) and all(key.startswith(_PROTOCOL) for key in cast("Mapping[str, Any]", meta)):
        del given["_meta"]
    blocks = [_plain_text(block) for block in cast("list[Any]", content)]
    return [*blocks, given] if given else blocks


def _plain_text(block: Any) -> Any:
    match block:
        case {"type": "text", "text": text, **rest} if not rest:
            return text
        case _:
            return block
