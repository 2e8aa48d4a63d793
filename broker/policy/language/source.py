"""From the bytes of a file to the tree of a document, in JSON or in YAML.

What belongs here: which notation a text is in, its encoding and its size. What does not: the notations (`json_text`,
`yaml_text`), and what a document may say (`documents`).
"""

from __future__ import annotations

from pathlib import PurePath

from broker.policy.language.json_text import json_events
from broker.policy.language.tree import Lines, Place, Tree, Unreadable, build_tree
from broker.policy.language.yaml_text import yaml_events

LARGEST = 1024 * 1024
"""The most bytes of a document."""

_NOTATIONS = {".json": json_events, ".yaml": yaml_events, ".yml": yaml_events}


def read_tree(text: str | bytes, source: str) -> Tree:
    """The tree of the document in `text`.

    Args:
        source: a file name; the notation is that of its suffix, else JSON when the text begins with a brace, else YAML.

    Raises:
        Unreadable: it is not UTF-8, too large, or not of its notation.
    """
    decoded = _decoded(text)
    sniffed = json_events if decoded.lstrip().startswith("{") else yaml_events
    events = _NOTATIONS.get(PurePath(source).suffix.lower(), sniffed)
    return build_tree(events(decoded))


def _decoded(text: str | bytes) -> str:
    if len(text) > LARGEST:
        raise Unreadable(f"larger than {LARGEST // 1024} KiB", Place(1, 1))
    try:
        decoded = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        raise Unreadable("not UTF-8; save it in that encoding", Lines(before).place(len(before))) from error
    if decoded.startswith("\ufeff"):
        raise Unreadable("starts with a byte-order mark; save it as UTF-8 without one", Place(1, 1))
    return decoded
