"""What Slack takes: the limits that it documents, and those that it was seen to have, each with where that is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

from integrations.slack.messages import Message
from tests.integrations.slack.drawing import Json

BLOCKS = 50
"""https://docs.slack.dev/reference/block-kit/blocks: up to 50 in each message, and 100 in a modal."""

TEXT = 3000
"""https://docs.slack.dev/reference/block-kit/composition-objects/text-object: 1 to 3,000 characters; ours in rich text
keep to it, too, which has no documented limit."""

ALL_BLOCKS = 12_000
"""https://github.com/slackapi/bolt-js/issues/2509 and 2867: `msg_blocks_too_long` somewhere about 13,200 characters of
texts with their containers. Ours stay below it even if every byte of their JSON counts."""

FALLBACK = 4000
"""https://docs.slack.dev/reference/methods/chat.update: more in `text` is `msg_too_long`."""

VALUE, URL, LABEL = 2000, 3000, 75
"""https://docs.slack.dev/reference/block-kit/block-elements/button-element"""

METADATA, TITLE = 3000, 24
"""https://docs.slack.dev/reference/views/modal-views"""


def check_message(said: Message) -> None:
    """Fail unless Slack would take it."""
    assert 0 < len(said.text.encode()) <= FALLBACK
    check_blocks(said.blocks)


def check_blocks(blocks: list[Json]) -> None:
    """Fail unless Slack would take these blocks."""
    assert 0 < len(blocks) <= BLOCKS
    assert _size(blocks) <= ALL_BLOCKS
    for block in blocks:
        parsed = Block.parse(block)
        assert parsed is not None
        parsed.validate_json()
        assert parsed.to_dict() == block, "Slack's own model of this block leaves something out"
    for part in _parts(blocks):
        _check(part)


def check_view(view: Json) -> None:
    """Fail unless Slack would take this modal."""
    View(**view).validate_json()
    check_blocks(view["blocks"])
    assert len(view["private_metadata"]) <= METADATA
    assert len(view["title"]["text"]) <= TITLE


def _check(part: Json) -> None:
    match part:
        case {"type": "button"}:
            assert len(part["text"]["text"]) <= LABEL
            assert len(part.get("value", "")) <= VALUE
            assert len(part.get("url", "")) <= URL
        case {"type": "rich_text_preformatted", "elements": elements}:
            assert all(element["type"] in ("text", "link") for element in elements)
        case {"type": "date"}:
            assert part["timestamp"] > 0
        case _:
            pass
    if isinstance(part.get("text"), str):
        assert 0 < len(part["text"].encode("utf-16-le", "surrogatepass")) / 2 <= TEXT
    assert part.get("elements") != []


def _size(blocks: list[Json]) -> int:
    text = json.dumps(blocks, ensure_ascii=False)
    return len(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").encode())


def _parts(value: Any) -> Iterator[Json]:
    if isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _parts(each)
    elif isinstance(value, dict):
        part = cast("Json", value)
        yield part
        for each in part.values():
            yield from _parts(each)
