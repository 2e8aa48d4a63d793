"""What Slack takes, as the local Slack judges it, and what ours keep to beyond that: they are never near a limit."""

from __future__ import annotations

import json
from typing import Any

from integrations.slack.messages import Message
from tests.integrations.slack.drawing import Json, texts
from tests.servers.slack.blocks import checked_message, checked_view
from tests.servers.slack.workspace import Workspace

TEXT = 3000
"""https://docs.slack.dev/reference/block-kit/composition-objects/text-object: 1 to 3,000 characters. Rich text has no
documented limit; ours keeps to this one."""

ALL_BLOCKS = 12_000
"""https://github.com/slackapi/bolt-js/issues/2509 and 2867: `msg_blocks_too_long` somewhere about 13,200 characters of
texts with their containers. Ours stay below it even if every byte of their JSON counts, and entities for `&<>`."""

FALLBACK = 4000
"""https://docs.slack.dev/reference/methods/chat.update: more in `text` is `msg_too_long`, and it counts bytes."""


def check_message(said: Message) -> None:
    """Fail unless Slack would take it."""
    assert 0 < len(said.text.encode()) <= FALLBACK
    check_blocks(said.blocks)


def check_blocks(blocks: list[Json]) -> None:
    """Fail unless Slack would take these blocks."""
    checked_message(Workspace(), blocks)
    assert _size(blocks) <= ALL_BLOCKS
    assert all(0 < len(text.encode("utf-16-le")) / 2 <= TEXT for text in texts(blocks))


def check_view(view: Json) -> None:
    """Fail unless Slack would take this modal."""
    checked_view(Workspace(), view)


def _size(blocks: Any) -> int:
    text = json.dumps(blocks, ensure_ascii=False)
    return len(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").encode())
