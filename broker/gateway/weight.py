"""How much a JSON text will cost whoever parses it, told from its bytes alone.

What belongs here: counting, in linear time and without an object for each value. What does not: what is done with a
text that is too heavy (`jsonrpc`, `replies`, a stdio server's connection). Pure: no I/O.
"""

from __future__ import annotations

import re

MOST_OF_AN_AGENT = 200_000
MOST_OF_A_SERVER = 1_000_000
"""What one message may weigh: a table of 100,000 rows and 5 columns weighs 900,000, a text of any length nothing."""

A_CONTAINER = 4
"""What an array or object weighs in values: it takes that much more memory, and more time."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # one that never ends goes to the end of the text
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


def outweighs(text: bytes, limit: int) -> bool:
    """Whether a JSON text holds more values than `limit`, where an array or object counts as four."""
    if len(text) * A_CONTAINER <= limit:
        return False
    if text.count(b'"') - text.count(b'\\"') > 4 * limit + 2:  # two for each string, which is a value or its name
        return True
    if _weight(text) <= limit:
        return False
    return _weight(_STRING.sub(b"", text)) > limit  # most commas of most texts are in its strings


def _weight(text: bytes) -> int:
    return (text.count(b"{") + text.count(b"[")) * A_CONTAINER + text.count(b",")


def brackets_nest_deeper(text: bytes, limit: int) -> bool:
    """Whether a text, JSON or not, opens more than `limit` brackets within each other. To be asked of a light one."""
    depth = 0
    for bracket in _STRING.sub(b"", text).translate(None, _NO_BRACKET):
        depth += 1 if bracket in b"[{" else -1
        if depth > limit:
            return True
    return False
