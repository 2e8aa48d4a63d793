"""What people do: click, submit, close, command; as the payloads that the app gets of it.

What belongs here: the documented shape of each payload. What does not: how it is delivered (deliveries.py).
Source: https://docs.slack.dev/reference/interaction-payloads/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.servers.slack.objects import APP, TEAM, Channel, Json, Message, Permit, Person, View
from tests.servers.slack.workspace import Workspace

TRIGGER_SECONDS = 3.0
"""https://docs.slack.dev/interactivity/handling-user-interaction#modal_responses"""
RESPONSE_SECONDS, RESPONSE_USES = 1800.0, 5
"""https://docs.slack.dev/interactivity/handling-user-interaction#message_responses"""
TEAM_DOMAIN = "local"


@dataclass(frozen=True)
class Interaction:
    """One thing that a person did; it may be delivered more than once.

    Attributes:
        kind: `interactive` or `slash_commands`, as Socket Mode calls them.
        view: the modal that it was done in.
    """

    kind: str
    user: Person
    payload: Json
    channel: Channel | None = None
    view: View | None = None


@dataclass(frozen=True)
class Button:
    """A button of a message: what is on it, and what it carries."""

    action_id: str
    text: str
    value: str
    url: str
    style: str
    block_id: str
    given: Json


def buttons(blocks: list[Json]) -> list[Button]:
    """The buttons in blocks, in their order, links too."""
    return [
        Button(
            element["action_id"],
            element["text"]["text"],
            element.get("value", ""),
            element.get("url", ""),
            element.get("style", ""),
            block["block_id"],
            element,
        )
        for block in blocks
        for element in _elements(block)
        if element["type"] == "button"
    ]


def _elements(block: Json) -> Iterator[Json]:
    if block["type"] == "actions":
        yield from block["elements"]
    elif "accessory" in block:
        yield block["accessory"]


def trigger(slack: Workspace, user: Person) -> str:
    """A new trigger id, as `12345.98765.abcd2358fdea`."""
    name = f"{len(slack.triggers) + 1}.98765.{slack.new_id('a').lower()}"
    slack.triggers[name] = Permit(user, None, slack.now() + TRIGGER_SECONDS, uses=1)
    return name


def response_url(slack: Workspace, user: Person, channel: Channel, message: Message | None) -> str:
    """A new response URL; `message` is the one that `replace_original` means."""
    name = slack.new_id("R")
    slack.response_urls[name] = Permit(user, channel, slack.now() + RESPONSE_SECONDS, RESPONSE_USES, message)
    return f"{slack.url}/actions/{TEAM}/{name}"


def _common(user: Person) -> Json:
    handle = user.name.lower().replace(" ", ".")
    return {
        "user": {"id": user.id, "username": handle, "name": handle, "team_id": user.team_id},
        "api_app_id": APP,
        "token": "legacy-verification-token",
        "team": {"id": TEAM, "domain": TEAM_DOMAIN},
        "enterprise": None,
        "is_enterprise_install": False,
    }


def press(slack: Workspace, user: Person, message: Message, button: Button, version: int) -> Interaction:
    """A click on a button, https://docs.slack.dev/reference/interaction-payloads/block_actions-payload"""
    container: Json = {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": message.channel.id,
        "is_ephemeral": message.only_for is not None,
    }
    if message.thread_ts is not None:
        container["thread_ts"] = message.thread_ts
    action: Json = {"type": "button", "action_id": button.action_id, "block_id": button.block_id}
    action |= {key: button.given[key] for key in ("text", "value", "url", "style", "confirm") if key in button.given}
    payload: Json = {
        "type": "block_actions",
        **_common(user),
        "container": container,
        "trigger_id": trigger(slack, user),
        "channel": {"id": message.channel.id, "name": message.channel.name},
        "state": {"values": {}},
        "response_url": response_url(slack, user, message.channel, message),
        "actions": [{**action, "action_ts": slack.new_ts()}],
    }
    if message.only_for is None:
        payload["message"] = message.told(version)
    return Interaction("interactive", user, payload, message.channel)


def filled(view: View, values: Mapping[str, Any]) -> Json:
    """The state of a modal's inputs; `values` are by action id or block id.

    Raises:
        LookupError: Slack's own client would not send this: an input that must be filled is empty, a text is too long
            or too short, or there is no such input.
    """
    state: Json = {}
    known: set[str] = set()
    for block in view.given["blocks"]:
        if block["type"] != "input":
            continue
        element, names = block["element"], {block["block_id"], block["element"]["action_id"]}
        known |= names
        value = next((values[name] for name in names if name in values), element.get("initial_value"))
        if not value and not block.get("optional"):
            raise LookupError(f"{block['block_id']} must be filled")
        if value and not element.get("min_length", 0) <= len(value) <= element.get("max_length", 3000):
            raise LookupError(f"{block['block_id']}: the text is too long or too short")
        state[block["block_id"]] = {element["action_id"]: {"type": element["type"], "value": value or None}}
    if set(values) - known:
        raise LookupError(f"no input is called {sorted(set(values) - known)}")
    return state


def submission(slack: Workspace, view: View, values: Mapping[str, Any]) -> Interaction:
    """A modal sent, https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload"""
    payload: Json = {
        "type": "view_submission",
        **_common(view.user),
        "trigger_id": trigger(slack, view.user),
        "view": view.told(filled(view, values)),
        "response_urls": [],
    }
    return Interaction("interactive", view.user, payload, view=view)


def closing(view: View) -> Interaction:
    """A modal closed, https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload"""
    payload: Json = {"type": "view_closed", **_common(view.user), "view": view.told(), "is_cleared": False}
    return Interaction("interactive", view.user, payload, view=view)


def command(slack: Workspace, user: Person, name: str, text: str, channel: Channel) -> Interaction:
    """A slash command, https://docs.slack.dev/interactivity/implementing-slash-commands#app_command_handling"""
    payload: Json = {
        "token": "legacy-verification-token",
        "team_id": TEAM,
        "team_domain": TEAM_DOMAIN,
        "channel_id": channel.id,
        "channel_name": channel.name,
        "user_id": user.id,
        "user_name": user.name.lower().replace(" ", "."),
        "command": name,
        "text": text,
        "api_app_id": APP,
        "is_enterprise_install": "false",
        "response_url": response_url(slack, user, channel, None),
        "trigger_id": trigger(slack, user),
    }
    return Interaction("slash_commands", user, payload, channel)
