"""Text from agents, servers and people, made visible: what the eye misses or misreads is an escape.

What belongs here: JSON values as readable text, marked for HTML. What does not: which characters hide
(`broker.domain.text`), pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from markupsafe import Markup, escape

from broker.domain.text import escape as escape_character
from broker.domain.text import is_hidden
from broker.web.pictures import picture

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
LEFT_OUT = Markup('<span class="left-out">')
"""What a text that was cut has in its HTML, and no other."""

_LINE_BEGINS = Markup("<i></i>")
_STEPS = 64
"""About how many steps it takes to find out how much of a text fits."""


def visible(text: object) -> Markup:
    """`text` for HTML: hidden characters as escapes that are marked, so that they differ from a typed ``\\u202e``."""
    given = str(text)
    if given.isascii() and given.translate(_WITHOUT_LAYOUT).isprintable():
        return escape(given)
    escapes = {char: escape_character(char) for char in set(given) if _is_hidden(char)}
    if not escapes:
        return escape(given)
    runs = re.compile(f"[{re.escape(''.join(escapes))}]+")

    def marked(run: re.Match[str]) -> str:
        return f'<b class="hidden-character">{"".join(map(escapes.__getitem__, run[0]))}</b>'

    return Markup(runs.sub(marked, escape(given)))  # noqa: S704 - all of it is escaped, and nothing hidden is in markup


def clipped(text: str, most: int, *, numbered: bool = False) -> tuple[Markup, int]:
    """As much of the beginning of `text`, visible, as `most` bytes of HTML hold, and how many characters are left out.

    Args:
        numbered: each line begins with an empty `<i>`, where a style sheet can put its number.
    """
    pieces, size = list[Markup](), numbered * len(_LINE_BEGINS)
    # in one piece if that fits, else step by step
    step = max(len(text), 1) if len(text) <= most and size + _size(text, numbered) <= most else max(most // _STEPS, 8)
    for start in range(0, len(text), step):
        size += _size(text[start : start + step], numbered)
        if size > most:
            return _joined(pieces, numbered), len(text) - start
        pieces.append(visible(text[start : start + step]))
    return _joined(pieces, numbered), 0


def _size(text: str, numbered: bool) -> int:
    return len(visible(text).encode()) + numbered * text.count("\n") * len(_LINE_BEGINS)


def _joined(pieces: Iterable[Markup], numbered: bool) -> Markup:
    html = Markup("").join(pieces)
    return _LINE_BEGINS + html.replace("\n", "\n" + _LINE_BEGINS).removesuffix(_LINE_BEGINS) if numbered else html


def cut(text: object, most: int = 200) -> Markup:
    """`text` visible, in about `most` bytes of HTML at most; what is left out is counted."""
    shown_part, left_out = clipped(str(text), most)
    if not left_out:
        return shown_part
    return shown_part + LEFT_OUT + Markup("… {:,} more characters</span>").format(left_out)


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
    """What a reader is told before long arguments: how many, each with its name and length. None of short ones;
    pictures count for nothing."""
    lengths = {name: len(shown(value).text) for name, value in arguments.items() if not _is_picture(value)}
    if sum(lengths.values()) <= _LONG:
        return None
    each = "; ".join(f"{name}, {length:,} character{'' if length == 1 else 's'}" for name, length in lengths.items())
    return f"{len(arguments)} argument{'' if len(arguments) == 1 else 's'}: {each}"


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) and picture(value) is not None


def answer_values(result: Any) -> list[Any]:
    """What a tool's result says: plain texts as text, pictures as their base64, all else as it is; not what is only
    protocol."""
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
    blocks = [_plain(block) for block in cast("list[Any]", content)]
    return [*blocks, given] if given else blocks


def _plain(block: Any) -> Any:
    match block:
        case {"type": "text", "text": text, **rest} if not rest:
            return text
        case {"type": "image", "data": str(data), "mimeType": kind, **rest} if not rest:
            found = picture(data)
            return data if found is not None and found.media_type == kind else block
        case _:
            return block
