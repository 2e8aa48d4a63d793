"""JSON as events (RFC 8259, exactly: no comments, no trailing commas, no NaN).

What belongs here: the syntax, and its mistakes in plain words. What does not: what the values are good for
(`tree` and up).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from broker.policy.language.tree import Event, Kind, Lines, Place, Unreadable

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|[^\s\[\]{}:,"]+')
"""What a valid text consists of, but for commas, colons and blanks, which say nothing more to who reads in order."""

_KINDS = {"{": Kind.OBJECT, "[": Kind.ARRAY, "}": Kind.END, "]": Kind.END}
_COMMENTS = ("//", "/*", "#")
_PLAIN = (
    ("Expecting value", "expected a value"),
    ("Expecting ',' delimiter", "expected a comma, or the end of what is open"),
    ("Expecting ':' delimiter", "expected a colon after the key"),
    ("Expecting property name", "expected a key in double quotes"),
    ("Extra data", "expected the end of the file"),
    ("Unterminated string", "the string that begins here has no end"),
    ("Invalid control character", "a string has no line break, tab or other control character: write \\n or \\t"),
    ("Invalid \\", "JSON has no such escape: a backslash is written twice"),
)


def json_events(text: str) -> Iterator[Event]:
    """The events of a JSON text.

    Raises:
        Unreadable: it is not JSON; says where.
    """
    lines = Lines(text)
    try:
        json.loads(text, parse_int=str)  # the syntax only: a number may have more digits than Python reads
    except json.JSONDecodeError as error:
        raise _not_json(text, error, lines) from error
    except RecursionError:
        pass  # the tree is refused where it gets too deep
    for token in _TOKEN.finditer(text):
        yield _event(token[0], lines.place(token.start()))


def _event(token: str, place: Place) -> Event:
    kind = _KINDS.get(token)
    if kind is not None:
        return Event(kind, place)
    try:
        return Event(Kind.SCALAR, place, json.loads(token))
    except ValueError:  # of a limit of Python's, since the syntax is right
        return Event(Kind.SCALAR, place, wrong="the number has too many digits")


def _not_json(text: str, error: json.JSONDecodeError, lines: Lines) -> Unreadable:
    offset = error.pos + len(text[error.pos :]) - len(text[error.pos :].lstrip())
    rest = text[offset:]
    if rest.startswith(_COMMENTS):
        sentence = "JSON has no comments: take it out, or write the document as YAML"
    elif rest.startswith(("}", "]")) and text[:offset].rstrip().endswith(","):
        sentence = "nothing follows the comma before this: take the comma out"
    else:
        sentence = next((plain for theirs, plain in _PLAIN if error.msg.startswith(theirs)), error.msg)
        if sentence.startswith("expected"):
            sentence += f", not {_found(rest)}"
        else:
            offset = error.pos
    return Unreadable(f"not JSON: {sentence}", lines.place(offset))


def _found(rest: str) -> str:
    word = re.match(r"\w{1,20}|.", rest, re.DOTALL)
    return word[0] if word else "the end of the file"
