"""What there is in a workspace: people, channels, user groups, messages, files and modals.

What belongs here: each thing by itself, and how it is told in JSON. What does not: the workspace that they are in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

TEAM = "T0LOCAL01"
APP = "A0BROKER1"
BOT_USER = "U0BROKER1"
BOT = "B0BROKER1"


@dataclass
class Person:
    """A member of the workspace, or of another one who is seen in a shared channel.

    Attributes:
        is_stranger: of another workspace, and in no channel that the app sees.
        is_email_confirmed: false until the address is confirmed.
    See https://docs.slack.dev/reference/objects/user-object
    """

    id: str
    name: str
    email: str | None
    team_id: str = TEAM
    is_bot: bool = False
    is_restricted: bool = False
    is_ultra_restricted: bool = False
    deleted: bool = False
    is_stranger: bool = False
    is_email_confirmed: bool = True

    def told(self, *, with_email: bool) -> Json:
        """The user object; the address only for a token with `users:read.email`."""
        handle = self.name.lower().replace(" ", ".")
        profile: Json = {"real_name": self.name, "display_name": self.name, "team": self.team_id}
        if with_email and self.email is not None:
            profile["email"] = self.email
        told: Json = {
            "id": self.id,
            "team_id": self.team_id,
            "name": handle,
            "deleted": self.deleted,
            "profile": profile,
            "is_bot": self.is_bot,
            "updated": 1700000000,
        }
        if self.deleted:
            return told
        told |= {
            "real_name": self.name,
            "tz": "Europe/London",
            "is_admin": False,
            "is_owner": False,
            "is_primary_owner": False,
            "is_restricted": self.is_restricted,
            "is_ultra_restricted": self.is_ultra_restricted,
            "is_app_user": False,
            "is_email_confirmed": self.is_email_confirmed,
        }
        return told | ({"is_stranger": True} if self.is_stranger else {})


@dataclass
class Channel:
    """A public or private channel, or the direct messages between the app and one person (`with_user`)."""

    id: str
    name: str
    is_private: bool = False
    is_archived: bool = False
    has_bot: bool = True
    members: list[Person] = field(default_factory=list[Person])
    with_user: Person | None = None

    @property
    def is_im(self) -> bool:
        """Whether these are direct messages."""
        return self.with_user is not None

    def told(self) -> Json:
        """The conversation object, https://docs.slack.dev/reference/objects/conversation-object"""
        told: Json = {"id": self.id, "is_im": self.is_im, "is_archived": self.is_archived}
        if self.with_user is not None:
            return told | {"user": self.with_user.id, "is_open": True}
        return told | {
            "name": self.name,
            "is_channel": not self.is_private,
            "is_group": self.is_private,
            "is_private": self.is_private,
            "is_member": self.has_bot,
            "is_mpim": False,
        }


@dataclass
class UserGroup:
    """A user group, https://docs.slack.dev/reference/objects/usergroup-object"""

    id: str
    handle: str
    users: list[Person]
    disabled: bool = False

    def told(self, *, with_users: bool, with_count: bool) -> Json:
        """The user group object."""
        told: Json = {
            "id": self.id,
            "team_id": TEAM,
            "is_usergroup": True,
            "name": self.handle,
            "handle": self.handle,
            "date_delete": 1700000000 if self.disabled else 0,
        }
        if with_users:
            told["users"] = [user.id for user in self.users]
        return told | ({"user_count": str(len(self.users))} if with_count else {})


@dataclass
class File:
    """A file or snippet: what was announced, and what was uploaded."""

    id: str
    filename: str
    length: int
    snippet_type: str
    content: bytes | None = None
    title: str = ""


@dataclass(frozen=True)
class Version:
    """What a message said at one time: its text, and its blocks as Slack keeps them (each with its block_id)."""

    text: str
    blocks: list[Json]


@dataclass
class Message:
    """A message of the app, in a channel or, with `only_for`, ephemeral.

    Attributes:
        versions: what it said, oldest first.
        frozen: set by a test: the app may not rewrite it any more (`cant_update_message`).
        asked: the arguments of the call that posted it (so that `unfurl_links`, `mrkdwn` and others can be looked at).
    """

    ts: str
    channel: Channel
    versions: list[Version]
    thread_ts: str | None = None
    only_for: Person | None = None
    frozen: bool = False
    deleted: bool = False
    asked: Json = field(default_factory=Json)
    files: list[File] = field(default_factory=list[File])

    @property
    def text(self) -> str:
        """What its notification and plain readers say, now."""
        return self.versions[-1].text

    @property
    def blocks(self) -> list[Json]:
        """Its present blocks."""
        return self.versions[-1].blocks

    def told(self, version: int = -1) -> Json:
        """The message object, https://docs.slack.dev/reference/events/message"""
        at = self.versions[version]
        told: Json = {
            "type": "message",
            "user": BOT_USER,
            "bot_id": BOT,
            "app_id": APP,
            "team": TEAM,
            "ts": self.ts,
            "text": at.text,
            "blocks": at.blocks,
        }
        if self.files:
            told["files"] = [{"id": file.id, "name": file.filename, "title": file.title} for file in self.files]
        if self.thread_ts is not None:
            told["thread_ts"] = self.thread_ts
        if at is not self.versions[0]:
            told["edited"] = {"user": BOT, "ts": self.ts}
        return told


@dataclass
class View:
    """A modal that is open before a person, https://docs.slack.dev/reference/views/modal-views"""

    id: str
    user: Person
    given: Json
    hash: str
    open: bool = True
    errors: dict[str, str] = field(default_factory=dict[str, str])

    def show(self, given: Json, stamp: str) -> None:
        """Show something else in it."""
        self.given, self.hash, self.errors = given, stamp, {}

    def told(self, values: Json | None = None) -> Json:
        """The view object, as answers and payloads have it; `values` is the state of its inputs."""
        return {
            "id": self.id,
            "team_id": TEAM,
            "type": "modal",
            "private_metadata": self.given.get("private_metadata", ""),
            "callback_id": self.given.get("callback_id", ""),
            "state": {"values": values or {}},
            "hash": self.hash,
            "title": self.given["title"],
            "clear_on_close": bool(self.given.get("clear_on_close")),
            "notify_on_close": bool(self.given.get("notify_on_close")),
            "close": self.given.get("close"),
            "submit": self.given.get("submit"),
            "previous_view_id": None,
            "root_view_id": self.id,
            "app_id": APP,
            "external_id": self.given.get("external_id", ""),
            "app_installed_team_id": TEAM,
            "bot_id": BOT,
            "blocks": self.given["blocks"],
        }


@dataclass
class Permit:
    """A trigger id or a response URL: the right to answer one interaction, so often and until then."""

    user: Person
    channel: Channel | None
    until: float
    uses: int
    message: Message | None = None
