"""Text from agents, servers and people, made visible: what the eye misses or misreads is an escape.

What belongs here: JSON values as readable text, marked for HTML. What does not: which characters hide
(`broker.domain.text`), pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup, escape

from broker.domain.text import LAYOUT, is_hidden
from broker.domain.text import escape as escape_character
from broker.domain.values import shown
from broker.web.pictures import picture

_WITHOUT_LAYOUT = str.maketrans("", "", "\n\t")
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


def beginning(text: str, most: int = 64) -> str:
    """The beginning of `text`, for a line in a list."""
    return text if len(text) <= most else f"{text[:most]}…"


def _is_hidden(char: str) -> bool:
    return char not in LAYOUT and is_hidden(char)


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
