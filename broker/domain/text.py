"""Text from agents, servers and people, made safe to look at: what the eye misses or misreads is an escape."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache

_SEEN_AS_NOTHING = frozenset("\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and marks that show as nothing; variation selectors are told by their range."""

LAYOUT = frozenset("\n\t")
"""What lays out a text of several lines, and is seen as that where there is room for them."""

_WIDE_BLANK = "\u3000"  # the space of Chinese and Japanese text: seen as what it is


def is_hidden(char: str) -> bool:
    """Whether `char` is not seen as itself: a control, bidirectional, zero-width or invisible one, or an odd space."""
    if char == _WIDE_BLANK:
        return False
    selects_variation = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return not char.isprintable() or selects_variation or char in _SEEN_AS_NOTHING


@lru_cache(maxsize=1024)
def escape(char: str) -> str:
    """A character as JSON spells it, such as ``\\n`` or ``\\u202e``, so that it reads the same within JSON."""
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def visible(text: str, layout: Collection[str] = ()) -> str:
    """`text` with everything that would not be seen as itself as an escape: on one line, unless `layout` is kept."""
    if text.isascii() and text.isprintable():
        return text
    hidden = {ord(char): escape(char) for char in set(text) if is_hidden(char) and char not in layout}
    return text.translate(hidden)


def whole(text: str) -> str:
    """`text` without half characters (lone surrogates), which JSON can carry and no record can."""
    return text.encode(errors="replace").decode()
