"""Requests over HTTP: only what Slack signed just now is taken, once, and only what the broker knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from broker.domain.approvals import State
from integrations.slack.choices import APPROVE
from integrations.slack.events import LARGEST
from tests.gateway.scene import block
from tests.integrations.slack.stage import Held, Stage
from tests.servers.slack import SIGNING_SECRET, Interaction, Person
from tests.servers.slack.deliveries import signed

JSON, FORM = "application/json", "application/x-www-form-urlencoded"


@pytest.fixture
def stage(http_stage: Stage) -> Stage:
    """Slack sends requests."""
    return http_stage


async def undecided(stage: Stage, held: Held) -> bool:
    approval = await stage.get(held)
    return (approval.state, approval.reviews) == (State.PENDING, ())


async def send(stage: Stage, body: str, kind: str = FORM, **fields: str) -> int:
    """A request with a good signature; gives its status."""
    headers = {**signed(body, SIGNING_SECRET, stage.slack.now()), "Content-Type": kind, **fields}
    status, _ = await stage.slack.deliveries.post(body, headers)
    return status


# -- what Slack did not sign ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [301.0, -301.0])
async def test_a_request_that_is_too_old_or_from_the_future_is_refused(stage: Stage, age: float) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    assert await stage.slack.forge(stage.slack.press(ann, held.message, APPROVE), age=age) == 401
    assert await undecided(stage, held)


async def test_a_request_that_somebody_else_signed_is_refused(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    assert await stage.slack.forge(stage.slack.press(ann, held.message, APPROVE), secret="guessed") == 401
    assert await undecided(stage, held)


@pytest.mark.parametrize(
    "fields",
    [
        {"X-Slack-Signature": ""},
        {"X-Slack-Signature": "v0=" + "0" * 64},
        {"X-Slack-Request-Timestamp": ""},
        {"X-Slack-Request-Timestamp": "now"},
        {"X-Slack-Request-Timestamp": "0"},
    ],
)
async def test_a_request_without_a_good_signature_or_timestamp_is_refused(stage: Stage, fields: dict[str, str]) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    body = urlencode({"payload": json.dumps(stage.slack.press(ann, held.message, APPROVE).payload)})
    assert await send(stage, body, **fields) == 401
    assert await undecided(stage, held)


async def test_a_body_that_is_not_the_signed_one_is_refused(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    body = urlencode({"payload": json.dumps(stage.slack.press(ann, held.message, APPROVE).payload)})
    headers = signed(body.replace(ann.id, "U0BROKER1"), SIGNING_SECRET, stage.slack.now())
    assert (await stage.slack.deliveries.post(body, headers))[0] == 401
    assert await undecided(stage, held)


async def test_a_request_that_was_taken_is_refused_when_it_comes_again(stage: Stage) -> None:
    ann, bob, held = await stage.known("ann"), await stage.known("bob"), await stage.held("two")
    delivery = await stage.slack.click(ann, held.message, APPROVE)
    await stage.scene.happened("approval.reviewed", held.agent)
    assert await stage.slack.replay(delivery) == 401
    await stage.slack.click(bob, held.message, APPROVE)
    assert block(await held.answer.message())["status"] == "approved"


# -- what is no request of Slack's ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
async def test_another_kind_of_content_is_refused(stage: Stage, kind: str) -> None:
    assert await send(stage, "payload={}", kind) == 415


async def test_a_body_that_is_too_large_is_refused(stage: Stage) -> None:
    assert await send(stage, "a" * (LARGEST + 1)) == 413


async def test_only_post_is_taken(stage: Stage) -> None:
    url = f"{stage.scene.broker.url}/slack/events"
    async with stage.scene.http.get(url) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("body", ["payload=[1]", "payload={", "payload=" + "[" * 5000, "payload=null", "\u00ff=%ff"])
async def test_what_cannot_be_read_is_refused(stage: Stage, body: str) -> None:
    assert await send(stage, body) in (400, 404)


async def test_slack_finds_the_address_when_it_checks_it(stage: Stage) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"})
    headers = {**signed(body, SIGNING_SECRET, stage.slack.now()), "Content-Type": JSON}
    status, said = await stage.slack.deliveries.post(body, headers)
    assert (status, said["challenge"]) == (200, json.loads(body)["challenge"])


async def test_fields_that_slack_did_not_sign_change_nothing(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    body = urlencode({"payload": json.dumps(stage.slack.press(ann, held.message, APPROVE).payload)})
    extra = {"X-Slack-Bolt-Lazy-Only": "1", "X-Slack-Bolt-Lazy-Function-Name": "x"}
    assert await send(stage, body, **extra) == 200
    assert block(await held.answer.message())["status"] == "approved"


# -- what the broker does not know ------------------------------------------------------------------------------------


def unknown_action(click: Interaction) -> None:
    click.payload["actions"][0]["action_id"] = "approval_approve_all"


def unknown_form(click: Interaction) -> None:
    click.payload.update({"type": "view_submission", "view": {"callback_id": "other", "state": {"values": {}}}})


def unknown_kind(click: Interaction) -> None:
    click.payload["type"] = "message_action"
    click.payload["callback_id"] = "approve"


@pytest.mark.parametrize("change", [unknown_action, unknown_form, unknown_kind])
async def test_what_the_broker_does_not_know_fails_in_slack_and_decides_nothing(
    stage: Stage, change: Callable[[Interaction], None]
) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    click = stage.slack.press(ann, held.message, APPROVE)
    change(click)
    assert (await stage.slack.send(click)).status in (400, 404)
    assert await undecided(stage, held)


async def test_a_command_that_the_broker_does_not_have_fails(stage: Stage) -> None:
    assert (await stage.slack.command(await stage.known("ann"), "/approve-all")).status == 404


def no_value(ann: Person, click: Interaction) -> None:
    del click.payload["actions"][0]["value"]


def odd_value(ann: Person, click: Interaction) -> None:
    click.payload["actions"][0]["value"] = '{"approval_id": 1}'


def other_app(ann: Person, click: Interaction) -> None:
    click.payload["api_app_id"] = "A0OTHER01"


def no_message(ann: Person, click: Interaction) -> None:
    del click.payload["message"]


def no_person(ann: Person, click: Interaction) -> None:
    click.payload["user"] = {"name": ann.name}


@pytest.mark.parametrize("change", [no_value, odd_value, other_app, no_message, no_person])
async def test_a_click_that_cannot_be_read_decides_nothing(
    stage: Stage, change: Callable[[Person, Interaction], None], caplog: pytest.LogCaptureFixture
) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    click = stage.slack.press(ann, held.message, APPROVE)
    change(ann, click)
    await stage.slack.send(click)
    assert await undecided(stage, held)
    assert [record.levelname for record in caplog.records if "cannot be read" in record.message] == ["WARNING"]


async def test_nothing_that_slack_sends_is_in_the_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "slack_bolt")
    ann, held = await stage.known("ann"), await stage.held()
    click = stage.slack.press(ann, held.message, APPROVE)
    assert await stage.slack.forge(click, secret="guessed") == 401
    unknown_action(click)
    await stage.slack.send(click)
    for secret in (held.approval_id, ann.id, SIGNING_SECRET, "xoxb-", "xapp-", click.payload["trigger_id"]):
        assert secret not in caplog.text
