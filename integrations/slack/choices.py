"""What a button of a message carries, and the names by which a click is recognised.

What belongs here: from a choice to the value of a button and back. What does not: the buttons (`blocks`), what a click
does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

APPROVE, REJECT, OPEN = "approval_approve", "approval_reject", "approval_open"
"""The `action_id` of each button; nothing is to be done when `OPEN` is clicked but to acknowledge it."""

REASON = "approval_reason"
"""The `callback_id` of the modal that asks for the reason of a rejection."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody who clicks decides about.

    It is no secret and no permission: who may decide, and whether this is still the present revision, is looked at when
    it is clicked.

    Args:
        revision: what the word is for.
        shown: the digest of what the message showed of the call (`broker.domain.seen`).
    """

    approval_id: str
    revision: str
    shown: str

    def encode(self) -> str:
        """The value of a button, far below Slack's 2,000 characters."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, value: str) -> Choice:
        """The choice that `encode` wrote.

        Raises:
            ValueError: it is none.
        """
        match json.loads(value):
            case {"approval_id": str(approval_id), "revision": str(revision), "shown": str(shown)}:
                return cls(approval_id, revision, shown)
            case _:
                raise ValueError("the value of this button is no choice")
