"""How a message becomes bytes: as every server writes them, or oddly, as the formats allow.

What belongs here: JSON and server-sent events as bytes. What does not: what they say.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any

Message = dict[str, Any]

_LONE = re.compile(r"[\ud800-\udfff]")
_LITERAL = re.compile(r'"<(-?[0-9.eE+-]+)>"')


class Style(StrEnum):
    """`ODD`: escapes, white space, numbers and line ends that few servers write and every reader has to take."""

    PLAIN = "plain"
    ODD = "odd"


def literal(number: str) -> str:
    """A number in a message that is written digit by digit as it is given here, such as `1e2`."""
    return f"<{number}>"


def line(message: Message, style: Style) -> bytes:
    """A message on one line, without its end."""
    if style is Style.PLAIN:
        text = _LITERAL.sub(r"\1", json.dumps(message, separators=(",", ":"), ensure_ascii=False))
        return _LONE.sub(lambda lone: f"\\u{ord(lone[0]):04x}", text).encode()
    text = _LITERAL.sub(r"\1", json.dumps(message, separators=(" ,\t", " : ")))
    return b" " + text.replace("//", "\\/\\/").encode() + b"\t"


def body(message: Message, style: Style) -> bytes:
    """A message as the whole body of an answer."""
    written = line(message, style)
    return written if style is Style.PLAIN else b"\r\n\t" + written + b"\n\n"


def event(message: Message, style: Style, number: int, event_id: str | None) -> bytes:
    """A message as the `number`th event of a stream."""
    data = line(message, style)
    identified = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    if style is Style.PLAIN:
        return b"event: message\n" + identified + b"data: " + data + b"\n\n"
    return _odd_event(data, identified, number)


def _odd_event(data: bytes, identified: bytes, number: int) -> bytes:
    first, _, second = data.partition(b" ,\t")  # white space of JSON, so a line may end there
    match number % 5:
        case 0:
            return b": a comment\n\n" + identified + b"data:" + data + b"\n\n"
        case 1:
            return (identified + b"event:message\ndata:" + data + b"\n\n").replace(b"\n", b"\r")
        case 2:
            return (b"data: " + first + b"\ndata:  ,\ndata:" + second + b"\n" + identified + b"\n").replace(
                b"\n", b"\r\n"
            )
        case 3:
            return b"unheard: of\nretry: 3000\n:\n" + identified + b"event: message\ndata: " + data + b"\r\n\r\n"
        case _:
            return b"event: message\r" + b"data: " + data + b"\r\n" + identified + b"unheard\n\r\n"


def opening(style: Style) -> bytes:
    """What a stream begins with."""
    return b"" if style is Style.PLAIN else b"\xef\xbb\xbf:\r"


def priming(event_id: str) -> bytes:
    """The event without a message that a stream which can be resumed begins with (2025-11-25, Streamable HTTP)."""
    return b"id: " + event_id.encode() + b"\nretry: 10\ndata: \n\n"
