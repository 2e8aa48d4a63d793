"""The methods that look people, user groups and channels up, and `auth.test`.

What belongs here: what these methods refuse and tell. What does not: who is in the workspace (workspace.py).
"""

from __future__ import annotations

from tests.servers.slack.calls import Call, Methods, SlackRefusal
from tests.servers.slack.chat import by_id
from tests.servers.slack.objects import BOT, BOT_USER, TEAM, Json, UserGroup
from tests.servers.slack.workspace import Workspace

LOOKUPS = Methods()


@LOOKUPS.add("auth.test", tier=300)
async def auth_test(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/auth.test"""
    return {
        "url": "https://local.slack.com/",
        "team": "Local",
        "user": "broker",
        "team_id": TEAM,
        "user_id": BOT_USER,
        "bot_id": BOT,
        "is_enterprise_install": False,
    }


@LOOKUPS.add("users.info", scopes=["users:read"], required="user", optional="include_locale", json=False, tier=100)
async def users_info(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/users.info"""
    person = slack.people.get(call.text("user"))
    if person is None:
        raise SlackRefusal("user_not_found")
    return {"user": person.told(with_email="users:read.email" in call.token.scopes)}


@LOOKUPS.add("users.lookupByEmail", scopes=["users:read.email"], required="email", json=False, tier=50)
async def lookup_by_email(slack: Workspace, call: Call) -> Json:
    """Nobody of another workspace, no bot and nobody deactivated is found, nor an address not confirmed.

    Source: https://docs.slack.dev/reference/methods/users.lookupByEmail
    """
    wanted = call.text("email").lower()
    for person in slack.people.values():
        member = person.team_id == TEAM and not (person.deleted or person.is_bot) and person.is_email_confirmed
        if member and (person.email or "").lower() == wanted:
            return {"user": person.told(with_email=True)}
    raise SlackRefusal("users_not_found")


def _group(slack: Workspace, name: str) -> UserGroup:
    if name not in slack.groups:
        raise SlackRefusal("no_such_subteam")
    return slack.groups[name]


@LOOKUPS.add(
    "usergroups.users.list",
    scopes=["usergroups:read"],
    required="usergroup",
    optional="include_disabled",
    json=False,
    tier=20,
)
async def usergroup_users(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/usergroups.users.list"""
    group = _group(slack, call.text("usergroup"))
    if group.disabled and not call.flag("include_disabled"):
        raise SlackRefusal("no_such_subteam")
    return {"users": [user.id for user in group.users]}


@LOOKUPS.add(
    "usergroups.list",
    scopes=["usergroups:read"],
    optional="include_count include_disabled include_users",
    json=False,
    tier=20,
)
async def usergroups(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/usergroups.list"""
    shown = [group for group in slack.groups.values() if not group.disabled or call.flag("include_disabled")]
    told = [group.told(with_users=call.flag("include_users"), with_count=call.flag("include_count")) for group in shown]
    return {"usergroups": told}


@LOOKUPS.add("conversations.open", optional="channel return_im users prevent_creation", scopes=["im:write"], tier=50)
async def conversations_open(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.open; here with one person only."""
    named = call.text("channel")
    if named:
        channel = by_id(slack, named)
    elif not call.text("users"):
        raise SlackRefusal("users_list_not_supplied")
    else:
        users = call.text("users").split(",")
        if len(users) > 1:
            raise SlackRefusal("too_many_users", "this Slack has direct messages with one person only")
        person = slack.people.get(users[0])
        if person is None or person.is_stranger:
            raise SlackRefusal("user_not_found")
        if person.deleted:
            raise SlackRefusal("user_disabled")
        channel = slack.direct(person)
    return {"channel": channel.told() if call.flag("return_im") else {"id": channel.id}}


READ_CHANNELS = ("channels:read",)


@LOOKUPS.add(
    "conversations.info",
    scopes=READ_CHANNELS,
    required="channel",
    optional="include_locale include_num_members",
    json=False,
    tier=50,
)
async def conversations_info(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.info"""
    return {"channel": by_id(slack, call.text("channel")).told()}


@LOOKUPS.add(
    "conversations.list",
    scopes=READ_CHANNELS,
    optional="cursor exclude_archived limit types",
    json=False,
    tier=20,
)
async def conversations_list(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.list, in one page; private ones only where the bot is."""
    types = (call.text("types") or "public_channel").split(",")
    if not {"public_channel", "private_channel", "im", "mpim"}.issuperset(types):
        raise SlackRefusal("invalid_types")
    shown: list[Json] = []
    for channel in slack.channels.values():
        kind = "im" if channel.is_im else "private_channel" if channel.is_private else "public_channel"
        hidden = channel.is_private and not channel.has_bot
        if kind in types and not hidden and not (channel.is_archived and call.flag("exclude_archived")):
            shown.append(channel.told())
    return {"channels": shown, "response_metadata": {"next_cursor": ""}}
