"""What the app posts to a response URL.

What belongs here: its limits, and what a post there does. What does not: who got the URL (interactions.py).
Source: https://docs.slack.dev/interactivity/handling-user-interaction#message_responses
"""

from __future__ import annotations

from aiohttp import web

from tests.servers.slack.blocks import checked_message
from tests.servers.slack.calls import SlackRefusal
from tests.servers.slack.objects import Json, Message, Permit, Version
from tests.servers.slack.orders import refuse
from tests.servers.slack.workspace import Workspace

KNOWN = {"text", "blocks", "response_type", "replace_original", "delete_original", "thread_ts", "mrkdwn"} | {
    "unfurl_links",
    "unfurl_media",
}


def respond(slack: Workspace, name: str, body: Json, order: str = "done", *, counted: bool = True) -> str:
    """A post to a response URL; the same is done with what a command's acknowledgement carries (`counted=False`).

    Returns:
        `ok`, or an error.
    """
    permit = slack.response_urls.get(name)
    if permit is None or slack.now() > permit.until:
        return "expired_url"
    if counted and not permit.uses:
        return "used_url"
    permit.uses -= counted
    try:
        refuse(order)
        _do(slack, permit, body)
    except SlackRefusal as refusal:
        return refusal.body["error"]
    return "ok"


def answer(told: str) -> web.Response:
    """What `respond` told over HTTP: errors have a status of their own.

    Source: https://docs.slack.dev/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks
    """
    if told == "ok":
        return web.Response(text=told)
    return web.json_response({"ok": False, "error": told}, status=404 if told.endswith("_url") else 400)


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
