"""The modal that asks why a call is rejected.

What belongs here: how it looks, and what was written into it. What does not: when it is opened, and what becomes of it
(`inbound`).

https://docs.slack.dev/reference/views/modal-views: at most 24 characters of a title, 3,000 of private metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.approvals.notices import Notice
from integrations.slack.arguments import named_values
from integrations.slack.blocks import Json, line, plain, rich_text
from integrations.slack.choices import REASON
from integrations.slack.messages import headline

LONGEST_REASON = 2000
"""Characters of a reason, in the browser too."""

LONGEST_METADATA = 3000

_FIELD = "reason"


def reason_modal(notice: Notice, private_metadata: str) -> Json:
    """The view in which somebody rejects a call, with a reason or without.

    Args:
        private_metadata: what its submission brings back, unseen.

    Raises:
        ValueError: that is too long.
    """
    if len(private_metadata) > LONGEST_METADATA:
        raise ValueError(f"a modal takes back at most {LONGEST_METADATA} characters")
    arguments = named_values(notice.approval.call.named_arguments)
    return {
        "type": "modal",
        "callback_id": REASON,
        "private_metadata": private_metadata,
        "title": plain("Reject this call"),
        "submit": plain("Reject"),
        "close": plain("Cancel"),
        "blocks": [rich_text(line(*headline(notice.approval)), *arguments.parts), _reason()],
    }


def reason_in(view: Mapping[str, Any]) -> str | None:
    """The reason that was written into the modal; None when there is none."""
    written = view["state"]["values"][_FIELD][_FIELD].get("value")
    return (written or "").strip() or None


def _reason() -> Json:
    return {
        "type": "input",
        "block_id": _FIELD,
        "optional": True,
        "label": plain("Reason, for the agent"),
        "element": {
            "type": "plain_text_input",
            "action_id": _FIELD,
            "multiline": True,
            "max_length": LONGEST_REASON,
            "focus_on_load": True,
        },
    }
