"""The rules of Block Kit in the local Slack: each limit holds at its edge and is broken one beyond it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from slack_sdk.errors import SlackApiError

from tests.servers.slack import Slack
from tests.servers.slack.blocks import SIZE_OF_BLOCKS, checked_message, checked_view
from tests.servers.slack.calls import SlackRefusal
from tests.servers.slack.workspace import Workspace

Block = dict[str, Any]


def plain(length: int = 1) -> Block:
    return {"type": "plain_text", "text": "x" * length}


def marked(length: int = 1) -> Block:
    return {"type": "mrkdwn", "text": "x" * length}


def button(**more: Any) -> Block:
    return {"type": "button", "text": plain(), **more}


def actions(*elements: Block) -> Block:
    return {"type": "actions", "elements": list(elements)}


def section(**more: Any) -> Block:
    return {"type": "section", "text": plain(), **more}


def context(*elements: Block) -> Block:
    return {"type": "context", "elements": list(elements)}


def rich(*elements: Block, kind: str = "rich_text_section") -> Block:
    return {"type": "rich_text", "elements": [{"type": kind, "elements": list(elements)}]}


def confirm(**sizes: int) -> Block:
    return {name: plain(sizes.get(name, 1)) for name in ("title", "text", "confirm", "deny")}


def filled(**more: Any) -> Block:
    return {"type": "input", "label": plain(), "element": {"type": "plain_text_input", **more}}


def menu(options: int, text: int = 1, value: int = 1) -> Block:
    return {"type": "static_select", "options": [{"text": plain(text), "value": "v" * value}] * options}


def view(*blocks: Block, **more: Any) -> Block:
    given = list(blocks) or [{"type": "divider"}]
    return {"type": "modal", "title": plain(), "submit": plain(), "blocks": given, **more}


ID = "i" * 254
URL = "https://example.com/"
LIMITS: dict[str, tuple[int, Callable[[int], Block]]] = {
    "section text": (3000, lambda n: section(text=marked(n))),
    "section fields": (10, lambda n: {"type": "section", "fields": [plain()] * n}),
    "section field": (2000, lambda n: {"type": "section", "fields": [marked(n)]}),
    "header": (150, lambda n: {"type": "header", "text": plain(n)}),
    "context elements": (10, lambda n: context(*[marked()] * n)),
    "actions elements": (25, lambda n: actions(*[button()] * n)),
    "button text": (75, lambda n: actions(button(text=plain(n)))),
    "button value": (2000, lambda n: actions(button(value="v" * n))),
    "button url": (3000, lambda n: actions(button(url=URL + "u" * (n - len(URL))))),
    "button label": (75, lambda n: actions(button(accessibility_label="l" * n))),
    "action_id": (255, lambda n: actions(button(action_id="a" * n))),
    "block_id": (255, lambda n: section(block_id="b" * n)),
    "confirm title": (100, lambda n: actions(button(confirm=confirm(title=n)))),
    "confirm text": (300, lambda n: actions(button(confirm=confirm(text=n)))),
    "confirm confirm": (30, lambda n: actions(button(confirm=confirm(confirm=n)))),
    "confirm deny": (30, lambda n: actions(button(confirm=confirm(deny=n)))),
    "options": (100, lambda n: actions(menu(n))),
    "option text": (75, lambda n: actions(menu(1, text=n))),
    "option value": (150, lambda n: actions(menu(1, value=n))),
    "image alt": (2000, lambda n: {"type": "image", "image_url": URL, "alt_text": "a" * n}),
    "image title": (2000, lambda n: {"type": "image", "image_url": URL, "alt_text": "a", "title": plain(n)}),
    "input label": (2000, lambda n: {**filled(), "label": plain(n)}),
    "input hint": (2000, lambda n: {**filled(), "hint": plain(n)}),
    "input placeholder": (150, lambda n: filled(placeholder=plain(n))),
    "input max_length": (3000, lambda n: filled(max_length=n)),
    "input min_length": (3000, lambda n: filled(min_length=n)),
    "input initial_value": (3000, lambda n: filled(initial_value="v" * n)),
    "list indent": (8, lambda n: {"type": "rich_text", "elements": [{**LIST, "indent": n}]}),
}
LIST: Block = {"type": "rich_text_list", "style": "bullet", "elements": []}

OF_VIEWS: dict[str, tuple[int, Callable[[int], Block]]] = {
    "title": (24, lambda n: view(title=plain(n))),
    "close": (24, lambda n: view(close=plain(n))),
    "submit": (24, lambda n: view(submit=plain(n))),
    "private_metadata": (3000, lambda n: view(private_metadata="p" * n)),
    "callback_id": (255, lambda n: view(callback_id="c" * n)),
    "external_id": (255, lambda n: view(external_id="e" * n)),
    "blocks": (100, lambda n: view(*[{"type": "divider"}] * n)),
}


def said(refused: pytest.ExceptionInfo[SlackRefusal]) -> str:
    [message] = refused.value.body["response_metadata"]["messages"]
    return message


@pytest.mark.parametrize("limit", LIMITS)
def test_a_block_may_be_as_long_as_is_documented_and_no_longer(limit: str) -> None:
    most, make = LIMITS[limit]
    checked_message(Workspace(), [make(most)])
    with pytest.raises(SlackRefusal, match="invalid_blocks") as refused:
        checked_message(Workspace(), [make(most + 1)])
    assert "[json-pointer:/blocks/0" in said(refused)
    assert "https://docs.slack.dev/" in said(refused)


@pytest.mark.parametrize("limit", OF_VIEWS)
def test_a_modal_may_be_as_long_as_is_documented_and_no_longer(limit: str) -> None:
    most, make = OF_VIEWS[limit]
    checked_view(Workspace(), make(most))
    with pytest.raises(SlackRefusal, match="invalid_arguments"):
        checked_view(Workspace(), make(most + 1))


BAD: dict[str, tuple[str, list[Any]]] = {
    "unknown block": ("unsupported type in a surface: marquee", [{"type": "marquee"}]),
    "no type": ("unsupported type in a surface: None", [{}]),
    "unknown member": ("invalid additional property: colour", [section(colour="red")]),
    "unknown member of an element": ("invalid additional property: color", [actions(button(color="red"))]),
    "empty text": ("must be more than 0 characters", [section(text=marked(0))]),
    "empty rich text": ("must be more than 0 characters", [rich({"type": "text", "text": ""})]),
    "no text at all": ("missing required field: text or fields", [{"type": "section"}]),
    "marked header": ("must be one of 'plain_text'", [{"type": "header", "text": marked()}]),
    "marked button": ("must be one of 'plain_text'", [actions(button(text=marked()))]),
    "verbatim plain text": ("invalid additional property: verbatim", [section(text={**plain(), "verbatim": True})]),
    "emoji in mrkdwn": ("invalid additional property: emoji", [section(text={**marked(), "emoji": True})]),
    "style": ("must be one of 'primary', 'danger'", [actions(button(style="default"))]),
    "address": ("must be a valid URL", [actions(button(url="javascript:alert(1)"))]),
    "no elements": ("no fewer than 1 items allowed", [actions()]),
    "half a confirmation": ("missing required field: deny", [actions(button(confirm={**confirm(), "deny": None}))]),
    "button in a context": ("unsupported type in a context block: button", [context(button())]),
    "action_id twice": ("action_id a exists more than once", [actions(button(action_id="a"), button(action_id="a"))]),
    "block_id twice": ("block_id b exists more than once", [section(block_id="b"), section(block_id="b")]),
    "user in code": (
        "unsupported type in preformatted text",
        [rich({"type": "user", "user_id": "U1"}, kind="rich_text_preformatted")],
    ),
    "unknown style": (
        "invalid additional property: blink",
        [rich({"type": "text", "text": "x", "style": {"blink": True}})],
    ),
    "range": ("must be one of 'here', 'channel'", [rich({"type": "broadcast", "range": "world"})]),
    "lengths": ("min_length must not be more than max_length", [filled(min_length=5, max_length=4)]),
    "initial value": ("the initial value is too long", [filled(max_length=4, initial_value="five!")]),
    "blocks": ("no more than 50 items allowed", [{"type": "divider"}] * 51),
}


@pytest.mark.parametrize("name", BAD)
def test_blocks_that_are_not_documented_so_are_refused_with_the_rule(name: str) -> None:
    rule, blocks = BAD[name]
    with pytest.raises(SlackRefusal, match="invalid_blocks") as refused:
        checked_message(Workspace(), blocks)
    assert rule in said(refused)


@pytest.mark.parametrize("given", [{"type": "divider"}, ["divider"], "divider"])
def test_blocks_that_are_no_array_of_objects_are_of_the_wrong_format(given: Any) -> None:
    with pytest.raises(SlackRefusal, match="invalid_blocks_format"):
        checked_message(Workspace(), given)


def test_all_blocks_of_a_message_together_are_limited() -> None:
    fitting = [rich({"type": "text", "text": "x" * (SIZE_OF_BLOCKS - 200)})]
    checked_message(Workspace(), fitting)
    with pytest.raises(SlackRefusal, match="msg_blocks_too_long"):
        checked_message(Workspace(), [*fitting, section(text=marked(200))])


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        ("submit is required", {**view(filled()), "submit": None}),
        ("only one element can have focus_on_load", view(filled(focus_on_load=True), filled(focus_on_load=True))),
        ("must be one of 'modal'", {**view(), "type": "dialog"}),
        ("missing required field: title", {**view(), "title": None}),
        ("no fewer than 1 items", {**view(), "blocks": []}),
        ("invalid additional property: footer", view(footer=plain())),
    ],
)
def test_a_modal_that_is_not_documented_so_is_refused_with_the_rule(rule: str, given: Block) -> None:
    with pytest.raises(SlackRefusal, match="invalid_arguments") as refused:
        checked_view(Workspace(), {name: value for name, value in given.items() if value is not None})
    assert rule in said(refused)


def test_ids_that_are_not_given_are_made_and_those_given_are_kept() -> None:
    [first, second] = checked_message(Workspace(), [actions(button(action_id="yes"), button()), section(block_id="s")])
    assert (first["elements"][0]["action_id"], second["block_id"]) == ("yes", "s")
    assert first["block_id"]
    assert first["elements"][1]["action_id"]


async def test_the_rule_reaches_the_client_as_slack_tells_it(slack: Slack, client: Any) -> None:
    slack.channel("desktop")
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel="#desktop", text="x", blocks=[actions(*[button()] * 26)])
    error: Any = caught.value
    [told] = error.response["response_metadata"]["messages"]
    assert told.startswith("[ERROR] no more than 25 items allowed [json-pointer:/blocks/0/elements]")
