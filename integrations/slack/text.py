"""Text from agents, servers, people and policies for Slack: it fits, and nothing in it hides, formats, calls or links.

What belongs here: making a text harmless, and cutting it. What does not: blocks (`blocks`), which text goes where.

Most of it stands in rich text, whose text elements Slack shows as they are. Only the line for notifications is parsed:
https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape as entities

from broker.domain.text import LAYOUT, escape, is_hidden

_WEIGHTS = {"&": 5, "<": 4, ">": 4, '"': 2, "\\": 2, "\n": 2, "\t": 2}

_MARKUP = re.compile(r"^>|[*~`]|(?<![^\W_])_|_(?![^\W_])|:(?!\d\d:)(?=[\w+'-]+:)|:(?=//)")
"""What begins or ends formatting, an emoji or a link in text that Slack parses."""


def weight(text: str) -> int:
    """The most that Slack can count of a text: bytes of JSON in UTF-8, with entities for what it parses. Each of its
    limits is one of characters or of bytes, and it does not say of which spelling."""
    return sum(_WEIGHTS.get(char) or len(char.encode()) for char in text)


@dataclass(frozen=True, slots=True)
class Cut:
    """The beginning of a text, made visible, and how many of its characters come after that."""

    text: str
    missing: int


def cut(given: str, most: int, lines: int = 1) -> Cut:
    """As much of `given` as weighs at most `most`, on so many lines; on one line, line breaks are escapes."""
    layout = LAYOUT if lines > 1 else frozenset[str]()
    pieces: list[str] = []
    for char in given:
        piece = escape(char) if is_hidden(char) and char not in layout else char
        most -= weight(piece)
        lines -= piece == "\n"
        if most < 0 or lines < 1:
            break
        pieces.append(piece)
    return Cut("".join(pieces), len(given) - len(pieces))


def brief(given: str, most: int = 80) -> str:
    """`given` on one line, and short: where it is not whole, that is seen by its last character."""
    beginning = cut(given, most)
    return f"{beginning.text}…" if beginning.missing else beginning.text


def unparsed(text: str) -> str:
    """`text` for a place where Slack parses: what would format, call or link is spelled as JSON or HTML spells it."""
    spelled = _MARKUP.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return entities(spelled, quote=False)
