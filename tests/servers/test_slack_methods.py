"""The Web API of the local Slack: what it refuses, in Slack's words, and what it does."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError

from tests.servers.slack import APP_TOKEN, BOT_SCOPES, BOT_TOKEN, BOT_USER, TEAM, Message, Slack
from tests.servers.slack.apps import client_of

MODAL: dict[str, Any] = {
    "type": "modal",
    "title": {"type": "plain_text", "text": "Why?"},
    "blocks": [{"type": "divider"}],
}
BUTTON: dict[str, Any] = {
    "type": "actions",
    "elements": [{"type": "button", "action_id": "yes", "text": {"type": "plain_text", "text": "Yes"}}],
}


async def refusal(answering: Awaitable[Any]) -> dict[str, Any]:
    """What a call is refused with."""
    with pytest.raises(SlackApiError) as caught:
        await answering
    error: Any = caught.value
    return error.response.data


async def error(answering: Awaitable[Any]) -> str:
    return (await refusal(answering))["error"]


async def posted(slack: Slack, client: Any, **more: Any) -> Message:
    await client.chat_postMessage(channel="#desktop", text="Hello", **more)
    return slack.posted[-1]


async def test_the_client_learns_who_it_is(client: Any) -> None:
    told = await client.auth_test()
    assert (told["team_id"], told["user_id"]) == (TEAM, BOT_USER)


@pytest.mark.parametrize("trouble", ["token_revoked", "invalid_auth", "account_inactive"])
async def test_a_token_in_trouble_is_answered_with_it(slack: Slack, client: Any, trouble: str) -> None:
    slack.revoke(BOT_TOKEN, trouble)
    assert await error(client.auth_test()) == trouble


async def test_tokens_are_checked_before_all_else(slack: Slack) -> None:
    assert await error(client_of(slack, "xoxb-unknown").auth_test()) == "invalid_auth"
    assert await error(client_of(slack, "").auth_test()) == "not_authed"
    assert await error(client_of(slack, APP_TOKEN).auth_test()) == "not_allowed_token_type"
    assert await error(client_of(slack).api_call("chat.shout")) == "unknown_method"


async def test_a_scope_that_was_not_granted_is_missed_by_name(slack: Slack, client: Any) -> None:
    slack.grant(BOT_TOKEN, BOT_SCOPES - {"chat:write"})
    told = await refusal(client.chat_postMessage(channel="#desktop", text="Hello"))
    assert (told["error"], told["needed"]) == ("missing_scope", "chat:write")
    assert "users:read" in told["provided"].split(",")


async def test_arguments_come_as_form_query_or_json_where_the_page_says_so(slack: Slack) -> None:
    alice = slack.person("Alice", "alice@example.com")
    url, headers = f"{slack.api_url}users.info", {"Authorization": f"Bearer {BOT_TOKEN}"}
    answers: list[Any] = []
    async with aiohttp.ClientSession(headers=headers) as http:
        for how in ("data", "params", "json"):
            given: Any = {how: {"user": alice.id}}
            async with http.post(url, **given) as answer:
                answers.append(await answer.json())
    assert [each["ok"] for each in answers] == [True, True, False]


async def test_missing_and_unknown_arguments_are_named(client: Any) -> None:
    told = await refusal(client.api_call("chat.postMessage", json={"text": "Hello", "chanel": "C1"}))
    assert told["response_metadata"]["messages"] == ["[ERROR] missing required field: channel"]
    told = await refusal(client.api_call("chat.postMessage", json={"text": "Hello", "channel": "C1", "colour": 1}))
    assert told["response_metadata"]["messages"] == ["[ERROR] chat.postMessage has no argument colour"]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"has_bot": False}, "not_in_channel"),
        ({"has_bot": False, "is_private": True}, "channel_not_found"),
        ({"is_archived": True}, "is_archived"),
    ],
)
async def test_a_channel_that_the_bot_may_not_write_in_refuses_its_message(
    slack: Slack, client: Any, facts: dict[str, Any], expected: str
) -> None:
    channel = slack.channel("desktop", **facts)
    for name in (channel.id, "#desktop", "desktop"):
        assert await error(client.chat_postMessage(channel=name, text="Hello")) == expected
    assert slack.messages(channel) == []


async def test_a_bot_writes_without_an_invitation_only_with_the_scope_for_it(slack: Slack, client: Any) -> None:
    slack.channel("desktop", has_bot=False)
    slack.grant(BOT_TOKEN, BOT_SCOPES | {"chat:write.public"})
    assert (await posted(slack, client)).text == "Hello"


async def test_a_message_is_rewritten_and_keeps_the_blocks_that_are_not_given(slack: Slack, client: Any) -> None:
    channel = slack.channel("desktop")
    message = await posted(slack, client, blocks=[BUTTON])
    where = {"channel": channel.id, "ts": message.ts}
    await client.chat_update(**where, text="Better")
    assert (message.text, len(slack.buttons(message))) == ("Better", 1)
    await client.chat_update(**where, text="Done", blocks=[])
    assert slack.buttons(message) == []
    assert [version.text for version in message.versions] == ["Hello", "Better", "Done"]
    assert await error(client.chat_update(**where, text="x" * 4001)) == "msg_too_long"
    assert await error(client.api_call("chat.update", json=where)) == "no_text"
    message.frozen = True
    assert await error(client.chat_update(**where, text="Late")) == "cant_update_message"
    message.deleted = True
    assert await error(client.chat_update(**where, text="Later")) == "message_not_found"
    channel.is_archived = True
    assert await error(client.chat_update(channel="C0", ts=message.ts, text="Lost")) == "channel_not_found"


async def test_a_text_that_is_much_too_long_is_cut_when_it_is_posted(slack: Slack, client: Any) -> None:
    slack.channel("desktop")
    await client.chat_postMessage(channel="#desktop", text="x" * 40_001)
    assert len(slack.posted[0].text) == 40_000


async def test_a_thread_hangs_below_a_message_that_is_there(slack: Slack, client: Any) -> None:
    channel = slack.channel("desktop")
    message = await posted(slack, client)
    reply = await posted(slack, client, thread_ts=message.ts)
    assert slack.thread(message) == [reply]
    assert slack.messages(channel) == [message]
    assert await error(posted(slack, client, thread_ts=reply.ts)) == "cannot_reply_to_message"
    assert await error(posted(slack, client, thread_ts="0")) == "invalid_thread_ts"
    await client.chat_delete(channel=channel.id, ts=message.ts)
    assert await error(posted(slack, client, thread_ts=message.ts)) == "thread_not_found"


async def test_an_ephemeral_message_is_for_one_member_of_the_channel(slack: Slack, client: Any) -> None:
    alice, bob = slack.person("Alice"), slack.person("Bob")
    channel = slack.channel("desktop", [alice])
    await client.chat_postEphemeral(channel=channel.id, user=alice.id, text="Psst")
    assert [each.text for each in slack.ephemerals(alice, channel)] == ["Psst"]
    told = client.chat_postEphemeral(channel=channel.id, user=bob.id, text="Psst")
    assert await error(told) == "user_not_in_channel"


async def test_people_are_told_as_they_are_and_their_address_only_to_those_who_may(slack: Slack, client: Any) -> None:
    guest = slack.person("Guest", "guest@example.com", is_restricted=True, is_email_confirmed=False)
    told = (await client.users_info(user=guest.id))["user"]
    assert (told["is_restricted"], told["is_email_confirmed"], told["team_id"]) == (True, False, TEAM)
    assert told["profile"]["email"] == "guest@example.com"
    slack.grant(BOT_TOKEN, BOT_SCOPES - {"users:read.email"})
    assert "email" not in (await client.users_info(user=guest.id))["user"]["profile"]
    assert await error(client.users_info(user="U0")) == "user_not_found"


@pytest.mark.parametrize(
    "facts",
    [{"deleted": True}, {"is_bot": True}, {"team_id": "T0OTHER01", "is_stranger": True}, {"is_email_confirmed": False}],
)
async def test_only_a_member_with_a_confirmed_address_is_found_by_it(
    slack: Slack, client: Any, facts: dict[str, Any]
) -> None:
    alice = slack.person("Alice", "alice@example.com")
    slack.person("Mallory", "mallory@example.com", **facts)
    assert (await client.users_lookupByEmail(email="Alice@example.com"))["user"]["id"] == alice.id
    assert await error(client.users_lookupByEmail(email="mallory@example.com")) == "users_not_found"


async def test_a_user_group_has_members_until_it_is_disabled(slack: Slack, client: Any) -> None:
    alice = slack.person("Alice")
    group = slack.group("owners", [alice])
    assert (await client.usergroups_users_list(usergroup=group.id))["users"] == [alice.id]
    [told] = (await client.usergroups_list(include_users=True))["usergroups"]
    assert (told["handle"], told["users"]) == ("owners", [alice.id])
    group.disabled = True
    assert (await client.usergroups_list())["usergroups"] == []
    assert await error(client.usergroups_users_list(usergroup=group.id)) == "no_such_subteam"


async def test_direct_messages_are_opened_once_and_not_with_those_who_left(slack: Slack, client: Any) -> None:
    alice, gone = slack.person("Alice"), slack.person("Gone", deleted=True)
    first, again = [(await client.conversations_open(users=alice.id))["channel"]["id"] for _ in range(2)]
    await client.chat_postMessage(channel=first, text="Hello")
    assert first == again == slack.direct(alice).id
    assert [each.text for each in slack.messages(alice)] == ["Hello"]
    assert await error(client.conversations_open(users=gone.id)) == "user_disabled"


async def test_channels_are_told_unless_they_are_hidden(slack: Slack, client: Any) -> None:
    slack.channel("desktop")
    secret = slack.channel("secret", is_private=True, has_bot=False)
    told = (await client.conversations_list(types="public_channel,private_channel"))["channels"]
    assert [each["name"] for each in told] == ["desktop"]
    assert await error(client.conversations_info(channel=secret.id)) == "channel_not_found"


async def test_a_trigger_opens_one_modal_within_three_seconds(slack: Slack, client: Any) -> None:
    alice = slack.person("Alice")
    slack.channel("desktop", [alice])
    message = await posted(slack, client, blocks=[BUTTON])
    triggers = [slack.press(alice, message, "yes").payload["trigger_id"] for _ in range(2)]
    await client.views_open(trigger_id=triggers[0], view=MODAL)
    assert await error(client.views_open(trigger_id=triggers[0], view=MODAL)) == "exchanged_trigger_id"
    assert await error(client.views_open(trigger_id="1.2.3", view=MODAL)) == "invalid_trigger_id"
    slack.advance(3.1)
    assert await error(client.views_open(trigger_id=triggers[1], view=MODAL)) == "expired_trigger_id"


async def test_a_modal_is_rewritten_by_its_present_hash_while_it_is_open(slack: Slack, client: Any) -> None:
    alice = slack.person("Alice")
    slack.channel("desktop", [alice])
    press = slack.press(alice, await posted(slack, client, blocks=[BUTTON]), "yes")
    view = (await client.views_open(trigger_id=press.payload["trigger_id"], view=MODAL))["view"]
    await client.views_update(view_id=view["id"], hash=view["hash"], view=MODAL)
    assert await error(client.views_update(view_id=view["id"], hash=view["hash"], view=MODAL)) == "hash_conflict"
    open_view = slack.modal(alice)
    assert open_view is not None
    await slack.close(open_view)
    assert await error(client.views_update(view_id=view["id"], view=MODAL)) == "not_found"


async def test_a_snippet_is_uploaded_in_three_steps_and_hangs_in_the_thread(slack: Slack, client: Any) -> None:
    channel = slack.channel("desktop")
    message = await posted(slack, client)
    content = b'{"path": "/tmp"}'
    step = await client.files_getUploadURLExternal(filename="all.json", length=len(content), snippet_type="json")
    early = client.files_completeUploadExternal(files=[{"id": step["file_id"]}], channel_id=channel.id)
    assert await error(early) == "file_not_found"
    async with aiohttp.ClientSession() as http:
        async with http.post(step["upload_url"], data=content[1:]) as answer:
            assert answer.status == 400
        async with http.post(step["upload_url"], data=content) as answer:
            assert answer.status == 200
    await client.files_completeUploadExternal(
        files=[{"id": step["file_id"], "title": "All"}], channel_id=channel.id, thread_ts=message.ts
    )
    [reply] = slack.thread(message)
    assert [(file.title, file.content) for file in reply.files] == [("All", content)]


async def test_the_convenient_upload_of_the_client_does_the_same(slack: Slack, client: Any) -> None:
    channel = slack.channel("desktop")
    await client.files_upload_v2(channel=channel.id, content="all of it", filename="all.txt", title="All")
    assert slack.messages(channel)[0].files[0].content == b"all of it"


async def test_a_response_url_is_good_for_five_posts_and_half_an_hour(slack: Slack, client: Any) -> None:
    alice = slack.person("Alice")
    slack.channel("desktop", [alice])
    message = await posted(slack, client, blocks=[BUTTON])
    urls = [slack.press(alice, message, "yes").payload["response_url"] for _ in range(2)]
    async with aiohttp.ClientSession() as http:

        async def post(url: str, **body: Any) -> str:
            async with http.post(url, json=body) as answer:
                text = await answer.text()
                return text if text == "ok" else json.loads(text)["error"]

        assert await post(urls[0], text="Only you", replace_original=False) == "ok"
        assert await post(urls[0], text="Rewritten", replace_original=True) == "ok"
        assert await post(urls[0], text="All", response_type="in_channel") == "ok"
        assert await post(urls[0]) == "no_text"
        assert await post(urls[0], delete_original=True) == "ok"
        assert await post(urls[0], text="Sixth") == "used_url"
        slack.advance(1801)
        assert await post(urls[1], text="Late") == "expired_url"
    assert [each.text for each in slack.ephemerals(alice)] == ["Only you"]
    assert message.deleted
    assert message.text == "Rewritten"
