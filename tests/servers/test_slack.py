"""The local Slack and a small Bolt app: what people do reaches the app, in both modes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from slack_sdk.errors import SlackApiError

from tests.servers.slack import BOT_TOKEN, Message, Person, Slack
from tests.servers.slack.apps import Running, app_of, over_http, over_sockets

MODES = pytest.mark.parametrize("mode", [over_http, over_sockets])

Heard = list[dict[str, Any]]

ASKING: list[dict[str, Any]] = [
    {"type": "section", "text": {"type": "plain_text", "text": "Run it?"}},
    {
        "type": "actions",
        "elements": [
            {"type": "button", "action_id": "yes", "value": "1", "text": {"type": "plain_text", "text": "Yes"}},
            {"type": "button", "action_id": "ask", "text": {"type": "plain_text", "text": "Why?"}},
        ],
    },
]
MODAL: dict[str, Any] = {
    "type": "modal",
    "callback_id": "why",
    "notify_on_close": True,
    "title": {"type": "plain_text", "text": "Why?"},
    "submit": {"type": "plain_text", "text": "Send"},
    "blocks": [
        {
            "type": "input",
            "block_id": "reason",
            "label": {"type": "plain_text", "text": "Reason"},
            "element": {"type": "plain_text_input", "action_id": "text", "multiline": True, "max_length": 100},
        }
    ],
}


def asking_app(slack: Slack, heard: Heard) -> Any:
    """An app that rewrites the message that is clicked, opens a modal, and answers a command."""
    app = app_of(slack)

    async def yes(ack: Any, body: dict[str, Any], client: Any) -> None:
        await ack()
        heard.append(body)
        with contextlib.suppress(SlackApiError):
            await client.chat_update(
                channel=body["channel"]["id"], ts=body["container"]["message_ts"], text="Done", blocks=[]
            )

    async def ask(ack: Any, body: dict[str, Any], client: Any) -> None:
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=MODAL)

    async def why(ack: Any, body: dict[str, Any]) -> None:
        said = body["view"]["state"]["values"]["reason"]["text"]["value"]
        await (ack(response_action="errors", errors={"reason": "Say more"}) if said == "no" else ack())
        heard.append(body)

    async def closed(ack: Any, body: dict[str, Any]) -> None:
        await ack()
        heard.append(body)

    async def approvals(ack: Any, body: dict[str, Any], respond: Any) -> None:
        await ack(f"Nothing waits for {body['user_name']}")
        await respond("Still nothing")

    app.action("yes")(yes)
    app.action("ask")(ask)
    app.view("why")(why)
    app.view_closed("why")(closed)
    app.command("/approvals")(approvals)
    return app


@pytest.fixture
def alice(slack: Slack) -> Person:
    return slack.person("Alice", "alice@example.com")


@pytest.fixture
async def asked(slack: Slack, client: Any, alice: Person) -> Message:
    slack.channel("desktop", [alice])
    await client.chat_postMessage(channel="#desktop", text="Run it?", blocks=ASKING)
    return slack.messages("#desktop")[0]


@MODES
async def test_a_click_reaches_the_app_which_rewrites_the_message(
    mode: Running, slack: Slack, alice: Person, asked: Message
) -> None:
    heard: Heard = []
    async with mode(slack, asking_app(slack, heard)):
        delivery = await slack.click(alice, asked, "yes")
        await slack.until(lambda: asked.text == "Done")
    assert (delivery.failed, delivery.seconds < 3) == ("", True)
    assert slack.buttons(asked) == []
    [body] = heard
    assert body["user"]["id"] == alice.id
    assert body["container"]["message_ts"] == body["message"]["ts"] == asked.ts
    assert (body["enterprise"], body["actions"][0]["value"]) == (None, "1")


@MODES
async def test_a_modal_opens_and_what_is_filled_in_reaches_the_app(
    mode: Running, slack: Slack, alice: Person, asked: Message
) -> None:
    heard: Heard = []
    async with mode(slack, asking_app(slack, heard)):
        await slack.click(alice, asked, "ask")
        view = await slack.until(lambda: slack.modal(alice))
        await slack.submit(view, {"reason": "no"})
        assert (view.open, view.errors) == (True, {"reason": "Say more"})
        await slack.submit(view, {"text": "It is late"})
        assert not view.open
    assert heard[1]["view"]["state"]["values"]["reason"]["text"]["value"] == "It is late"


@MODES
async def test_a_modal_that_is_closed_is_told_if_the_app_asked_for_it(
    mode: Running, slack: Slack, alice: Person, asked: Message
) -> None:
    heard: Heard = []
    async with mode(slack, asking_app(slack, heard)):
        await slack.click(alice, asked, "ask")
        await slack.close(await slack.until(lambda: slack.modal(alice)))
        assert (await slack.until(lambda: heard))[0]["type"] == "view_closed"
    assert slack.modal(alice) is None


@MODES
async def test_a_command_is_answered_to_its_person_alone(mode: Running, slack: Slack, alice: Person) -> None:
    bob = slack.person("Bob", "bob@example.com")
    slack.channel("desktop", [alice, bob])
    async with mode(slack, asking_app(slack, [])):
        await slack.command(alice, "/approvals", place="#desktop")
        await slack.until(lambda: len(slack.ephemerals(alice, "#desktop")) == 2)
    assert {each.text for each in slack.ephemerals(alice)} == {"Nothing waits for alice", "Still nothing"}
    assert slack.ephemerals(bob) == slack.messages("#desktop") == []


@MODES
async def test_a_click_is_delivered_twice_late_and_after_the_message_is_gone_as_it_was_made(
    mode: Running, slack: Slack, alice: Person, asked: Message
) -> None:
    heard: Heard = []
    async with mode(slack, asking_app(slack, heard)):
        first, second = slack.press(alice, asked, "yes"), slack.press(alice, asked, "yes")
        await slack.send(second)
        await slack.until(lambda: asked.text == "Done")
        for each in (first, first):
            await slack.send(each)
        asked.deleted = True
        await slack.click(alice, asked, "yes", version=0)
        await slack.until(lambda: len(heard) == 4)
    stamps = [body["actions"][0]["action_ts"] for body in heard]
    assert stamps[1] == stamps[2] < stamps[0] < stamps[3]
    assert heard[3]["message"]["text"] == "Run it?"


async def test_a_button_that_is_not_there_any_more_cannot_be_clicked(slack: Slack, client: Any, alice: Person) -> None:
    channel = slack.channel("desktop", [alice])
    await client.chat_postMessage(channel=channel.id, text="Run it?", blocks=ASKING)
    [message] = slack.messages(channel)
    await client.chat_update(channel=channel.id, ts=message.ts, text="Done", blocks=[])
    with pytest.raises(LookupError):
        slack.press(alice, message, "yes")
    assert slack.press(alice, message, "yes", version=0).payload["message"]["text"] == "Run it?"


@MODES
async def test_a_click_on_an_ephemeral_message_has_no_message_in_it(
    mode: Running, slack: Slack, client: Any, alice: Person
) -> None:
    heard: Heard = []
    channel = slack.channel("desktop", [alice])
    await client.chat_postEphemeral(channel=channel.id, user=alice.id, text="Run it?", blocks=ASKING)
    async with mode(slack, asking_app(slack, heard)):
        await slack.click(alice, slack.ephemerals(alice)[0], "yes")
        await slack.until(lambda: heard)
    assert "message" not in heard[0]
    assert heard[0]["container"]["is_ephemeral"]


async def test_a_click_that_is_not_acknowledged_in_time_fails_for_its_person(
    slack: Slack, alice: Person, asked: Message
) -> None:
    app, heard = app_of(slack), list[str]()

    async def silent(body: dict[str, Any]) -> None:
        heard.append(body["type"])

    app.action("yes")(silent)
    slack.deliveries.patience = 0.2
    async with over_sockets(slack, app):
        assert (await slack.click(alice, asked, "yes")).failed == "operation_timeout"


async def test_nothing_is_delivered_without_a_connection(slack: Slack, alice: Person, asked: Message) -> None:
    assert (await slack.click(alice, asked, "yes")).failed == "dispatch_failed"


async def test_a_request_with_a_wrong_signature_or_an_old_timestamp_is_refused_and_a_replayed_one_is_as_it_was(
    slack: Slack, alice: Person, asked: Message
) -> None:
    heard: Heard = []
    async with over_http(slack, asking_app(slack, heard)):
        press = slack.press(alice, asked, "yes")
        assert await slack.forge(press, secret="another") == 401
        assert await slack.forge(press, age=301) == 401
        assert heard == []
        delivery = await slack.send(press)
        assert await slack.replay(delivery) == 200
        assert await slack.replay(delivery, **{"X-Slack-Request-Timestamp": "1"}) == 401
        assert await slack.verify_url()


async def test_a_token_that_is_revoked_keeps_a_real_app_from_hearing_anything(
    slack: Slack, alice: Person, asked: Message
) -> None:
    slack.revoke(BOT_TOKEN)
    heard: Heard = []
    async with over_http(slack, asking_app(slack, heard)):
        await slack.click(alice, asked, "yes")
    assert heard == []
