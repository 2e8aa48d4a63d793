"""What the blocks of messages and modals may look like."""

from __future__ import annotations

from typing import Any

from tests.servers.slack.calls import SlackRefusal
from tests.servers.slack.workspace import Json, Workspace


def checked_message(slack: Workspace, blocks: Any) -> list[Json]:
    """The blocks of a message, each with a block_id."""
    if blocks is None:
        return []
    if not isinstance(blocks, list):
        raise SlackRefusal("invalid_blocks_format")
    return [block if block.get("block_id") else {**block, "block_id": slack.new_id("b")} for block in blocks]


def checked_view(slack: Workspace, view: Any) -> Json:
    """A modal, its blocks each with a block_id."""
    if not isinstance(view, dict) or view.get("type") != "modal":
        raise SlackRefusal("invalid_arguments", "invalid view")
    return {**view, "blocks": checked_message(slack, view["blocks"])}
