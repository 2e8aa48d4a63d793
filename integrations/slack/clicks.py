"""What a click, a modal and a command say: their payloads, read.

What belongs here: what is taken from a payload. What does not: what is done about it (`deciding`).

https://docs.slack.dev/reference/interaction-payloads
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from integrations.slack.choices import Choice

Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spot:
    """Which message a button is of, what it is for, and where its answers go, seen by one person only."""

    channel: str
    ts: str
    choice: str
    response_url: str


@dataclass(frozen=True, slots=True)
class Click:
    """One person's click on a button of a message.

    Args:
        homes: the workspace that it came from, and the organisation that this is part of, if it is.
    """

    user_id: str
    homes: frozenset[str]
    spot: Spot
    choice: Choice
    trigger_id: str

    @property
    def metadata(self) -> str:
        """What a modal brings back, so that its submission is of the same message."""
        return json.dumps(asdict(self.spot))


def clicked(payload: Payload) -> Click:
    """The click on a button.

    Raises:
        ValueError: it is none on a message of the broker.
    """
    match payload:
        case {
            "user": {"id": str(user_id)},
            "container": {"type": "message", "message_ts": str(ts), "channel_id": str(channel)},
            "message": {"app_id": str(app)},
            "api_app_id": str(own),
            "trigger_id": str(trigger_id),
            "response_url": str(response_url),
            "actions": [{"value": str(value)}],
        } if app == own:
            spot = Spot(channel, ts, value, response_url)
            return Click(user_id, homes(payload), spot, Choice.decode(value), trigger_id)
        case _:
            raise ValueError("it is no click on a message of this app")


def submitted(payload: Payload) -> Click:
    """The click that opened the modal which is now submitted.

    Raises:
        ValueError: it is none of the broker's.
    """
    match payload:
        case {
            "user": {"id": str(user_id)},
            "view": {"private_metadata": str(metadata), "app_id": str(app)},
            "api_app_id": str(own),
        } if app == own:
            spot = _spot(json.loads(metadata))
            return Click(user_id, homes(payload), spot, Choice.decode(spot.choice), "")
        case _:
            raise ValueError("it is no modal of this app")


def homes(payload: Payload) -> frozenset[str]:
    """Where something came from, by the ids of a workspace and of an organisation, in payloads and in commands."""
    parts: list[Mapping[str, Any]] = [payload.get("team") or {}, payload.get("enterprise") or {}]
    ids = [*(part.get("id") for part in parts), payload.get("team_id"), payload.get("enterprise_id")]
    return frozenset(each for each in ids if isinstance(each, str))


def _spot(kept: object) -> Spot:
    match kept:
        case {"channel": str(channel), "ts": str(ts), "choice": str(choice), "response_url": str(response_url)}:
            return Spot(channel, ts, choice, response_url)
        case _:
            raise ValueError("it is no modal of this app")
