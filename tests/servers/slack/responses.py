"""What the app posts to a response URL.

What belongs here: its limits, and what a post there does. What does not: who got the URL (interactions.py).
Source: https://docs.slack.dev/interactivity/handling-user-interaction#message_responses
"""

from __future__ import annotations

from aiohttp import web

from tests.servers.slack.blocks import checked_message
from tests.servers.slack.calls import SlackRefusal
from tests.servers.slack.workspace import Json, Message, Permit, Version, Workspace

KNOWN = {"text", "blocks", "response_type", "replace_original", "delete_original", "thread_ts", "mrkdwn"}


def respond(slack: Workspace, name: str, body: Json, *, counted: bool = True) -> web.Response:
    """A post to a response URL; the same is done with what a command's acknowledgement carries (`counted=False`)."""
    permit = slack.response_urls.get(name)
    if permit is None or slack.now() > permit.until:
        return _refused("expired_url")
    if counted and not permit.uses:
        return _refused("used_url")
    permit.uses -= counted
    try:
        _do(slack, permit, body)
    except SlackRefusal as refusal:
        return web.json_response(refusal.body)
    return web.Response(text="ok")


def _do(slack: Workspace, permit: Permit, body: Json) -> None:
    unknown = sorted(set(body) - KNOWN)
    if unknown:
        raise SlackRefusal("invalid_arguments", *(f"no such argument: {each}" for each in unknown))
    original = permit.message
    if body.get("delete_original") and original is not None:
        original.deleted = True
        return
    version = Version(body.get("text", ""), checked_message(slack, body.get("blocks")))
    if not version.text and not version.blocks:
        raise SlackRefusal("no_text")
    if body.get("replace_original") and original is not None:
        original.versions.append(version)
        return
    assert permit.channel is not None
    alone = None if body.get("response_type") == "in_channel" else permit.user
    thread = body.get("thread_ts")
    slack.posted.append(Message(slack.new_ts(), permit.channel, [version], thread, only_for=alone, asked=body))


def _refused(error: str) -> web.Response:
    return web.json_response({"ok": False, "error": error}, status=404)
