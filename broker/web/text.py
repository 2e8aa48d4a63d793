"""Text from agents, servers and people, made visible: what the eye misses or misreads is an escape.

What belongs here: marking it for HTML. What does not: which characters hide (`broker.domain.text`), JSON values as text
(`broker.domain.values`), pages.
"""

from __future__ import annotations

from itertools import groupby

from markupsafe import Markup, escape

from broker.domain.text import LAYOUT, is_hidden
from broker.domain.text import escape as escape_character

_WITHOUT_LAYOUT = str.maketrans("", "", "\n\t")


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


def _is_hidden(char: str) -> bool:
    return char not in LAYOUT and is_hidden(char)
