"""Text from agents, servers and people, made safe to look at."""

from __future__ import annotations

import json
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that act instead of being seen: control, format (bidirectional, zero-width), separators."""

_SEEN_AS_NOTHING = frozenset("\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Others that show as nothing; variation selectors are told by their range."""


def visible(text: str) -> str:
    """`text` on one line, with everything that would not be seen as itself as an escape: ``\\n``, ``\\u202e``.

    The escapes are those of JSON, so they read the same in arguments that are shown as JSON.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN and char not in _SEEN_AS_NOTHING and not _selects_variation(char):
        return char
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def _selects_variation(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
