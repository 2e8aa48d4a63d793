"""The `chat.` methods: posting, rewriting and deleting messages.

What belongs here: what these methods refuse and do. What does not: what blocks may look like (blocks.py).
"""

from __future__ import annotations

import re

from tests.servers.slack.blocks import checked_message
from tests.servers.slack.calls import Call, Methods, SlackRefusal
from tests.servers.slack.objects import Channel, Json, Message, Version
from tests.servers.slack.workspace import Workspace

CHAT = Methods()

LONGEST_POSTED = 40_000
"""A posted text is cut there, https://docs.slack.dev/changelog/2018-truncating-really-long-messages"""
LONGEST_UPDATED = 4_000
"""A longer text is `msg_too_long`, https://docs.slack.dev/reference/methods/chat.update#errors"""

SPEECH = "text blocks attachments markdown_text metadata link_names parse"
LOOKS = "icon_emoji icon_url username"


def place(slack: Workspace, name: str) -> Channel:
    """A channel by id, or by name with or without #; a person's id is his direct messages.

    Source: https://docs.slack.dev/reference/methods/chat.postMessage#channels
    """
    if name in slack.people:
        return slack.direct(slack.people[name])
    for channel in slack.channels.values():
        if name == channel.id or (channel.name == name.removeprefix("#") and not channel.is_im):
            if channel.is_private and not channel.has_bot:
                break
            return channel
    raise SlackRefusal("channel_not_found")


def by_id(slack: Workspace, name: str) -> Channel:
    """A channel by its id alone."""
    if name not in slack.channels:
        raise SlackRefusal("channel_not_found")
    return place(slack, name)


def writable(channel: Channel, call: Call) -> None:
    """Refuse a channel into which the bot may not write."""
    if channel.is_archived:
        raise SlackRefusal("is_archived")
    if not channel.has_bot and "chat:write.public" not in call.token.scopes:
        raise SlackRefusal("not_in_channel")


def spoken(slack: Workspace, call: Call) -> Version:
    """The text and the blocks that a call gives, judged."""
    if call.arguments.get("attachments"):
        raise SlackRefusal("invalid_arguments", "this Slack takes no attachments: they are legacy")
    if call.arguments.get("markdown_text"):
        raise SlackRefusal("invalid_arguments", "this Slack takes no markdown_text")
    if call.arguments.get("parse") == "full" or call.flag("link_names"):
        raise SlackRefusal("invalid_arguments", "parse=full and link_names turn text into mentions")
    blocks = checked_message(slack, call.structure("blocks", "invalid_blocks_format"))
    if not call.text("text") and not blocks:
        raise SlackRefusal("no_text")
    return Version(call.text("text")[:LONGEST_POSTED], blocks)


def parent_ts(slack: Workspace, channel: Channel, call: Call) -> str | None:
    """The message whose thread is meant; a reply's own ts is refused, for the page says to never use one.

    Two errors that the page does not list: https://github.com/slackapi/bolt-js/issues/2307 (`thread_not_found`) and
    https://github.com/jenkinsci/slack-plugin/issues/584 (`invalid_thread_ts`).
    """
    ts = call.text("thread_ts")
    if not ts:
        return None
    if not re.fullmatch(r"\d+\.\d{6}", ts):
        raise SlackRefusal("invalid_thread_ts", f"{ts} is not a valid thread_ts")
    parent = slack.find(channel, ts)
    if parent is None:
        raise SlackRefusal("thread_not_found")
    if parent.thread_ts is not None:
        raise SlackRefusal("cannot_reply_to_message")
    return ts


@CHAT.add(
    "chat.postMessage",
    scopes=["chat:write"],
    required="channel",
    optional=f"{SPEECH} {LOOKS} mrkdwn reply_broadcast thread_ts unfurl_links unfurl_media",
    tier=300,
)
async def post_message(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.postMessage"""
    channel = place(slack, call.text("channel"))
    writable(channel, call)
    version = spoken(slack, call)
    message = Message(slack.new_ts(), channel, [version], parent_ts(slack, channel, call), asked=call.arguments)
    slack.posted.append(message)
    return {"channel": channel.id, "ts": message.ts, "message": message.told()}


@CHAT.add(
    "chat.postEphemeral",
    scopes=["chat:write"],
    required="channel user",
    optional=f"{SPEECH} {LOOKS} thread_ts",
    tier=100,
)
async def post_ephemeral(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.postEphemeral"""
    channel = place(slack, call.text("channel"))
    if channel.is_archived:
        raise SlackRefusal("is_archived")
    if not channel.has_bot:
        raise SlackRefusal("not_in_channel")
    user = slack.people.get(call.text("user"))
    if user not in channel.members:
        raise SlackRefusal("user_not_in_channel")
    thread = parent_ts(slack, channel, call)
    version = spoken(slack, call)
    message = Message(slack.new_ts(), channel, [version], thread, only_for=user, asked=call.arguments)
    slack.posted.append(message)
    return {"message_ts": message.ts}


def _mine(slack: Workspace, call: Call) -> Message:
    message = slack.find(by_id(slack, call.text("channel")), call.text("ts"))
    if message is None:
        raise SlackRefusal("message_not_found")
    return message


@CHAT.add(
    "chat.update", scopes=["chat:write"], required="channel ts", optional=f"{SPEECH} reply_broadcast file_ids", tier=50
)
async def update(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.update; without `blocks` the message keeps those that it has."""
    message = _mine(slack, call)
    if message.channel.is_archived:
        raise SlackRefusal("is_inactive")
    if message.frozen:
        raise SlackRefusal("cant_update_message")
    if len(call.text("text")) > LONGEST_UPDATED:
        raise SlackRefusal("msg_too_long")
    version = spoken(slack, call)
    kept = message.blocks if call.arguments.get("blocks") is None else version.blocks
    message.versions.append(Version(version.text, kept))
    told: Json = {"channel": message.channel.id, "ts": message.ts, "text": message.text, "message": message.told()}
    return told


@CHAT.add("chat.delete", scopes=["chat:write"], required="channel ts", tier=50)
async def delete(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.delete"""
    message = _mine(slack, call)
    message.deleted = True
    return {"channel": message.channel.id, "ts": message.ts}
