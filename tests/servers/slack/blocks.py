"""Blocks, and what a message or a modal made of them may be.

What belongs here: the rules of blocks, of messages and of modals. What does not: what stands in blocks (elements.py).
Each is judged by the rules here, which cite Slack's pages, and by Slack's own models of its Python SDK.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

from tests.servers.slack.calls import SlackRefusal
from tests.servers.slack.elements import (
    ANY_LENGTH,
    BUTTON,
    CHECKBOXES,
    ID,
    IMAGE,
    KIT,
    ONE_ACTION_EACH,
    OVERFLOW,
    PLAIN_TEXT_INPUT,
    RADIO_BUTTONS,
    RICH_PARTS,
    STATIC_SELECT,
    plain,
    text,
)
from tests.servers.slack.objects import Json
from tests.servers.slack.shapes import (
    Broken,
    Check,
    array,
    boolean,
    by_type,
    distinct,
    every,
    json_object,
    one_of,
    shape,
    string,
    web_address,
)
from tests.servers.slack.workspace import Workspace

BLOCKS_OF_MESSAGE, BLOCKS_OF_VIEW = 50, 100
"""https://docs.slack.dev/reference/block-kit/blocks"""
SIZE_OF_BLOCKS = 13_200
"""Bytes of JSON of all blocks of a message, above which it is `msg_blocks_too_long`.

The method's page has the error and no number; the number is the lowest that was measured and told to Slack, in
https://github.com/slackapi/bolt-js/issues/2509 and https://github.com/slackapi/bolt-js/issues/2867.
"""
SIZE_OF_VIEW = 250_000
"""https://docs.slack.dev/reference/methods/views.open#errors, `view_too_large`"""

_CLICKABLE: dict[str, Check] = {
    "button": BUTTON,
    "checkboxes": CHECKBOXES,
    "overflow": OVERFLOW,
    "radio_buttons": RADIO_BUTTONS,
    "static_select": STATIC_SELECT,
}
_FILLED: dict[str, Check] = {
    "checkboxes": CHECKBOXES,
    "plain_text_input": PLAIN_TEXT_INPUT,
    "radio_buttons": RADIO_BUTTONS,
    "static_select": STATIC_SELECT,
}


def _block(kind: str, required: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    page = f"{KIT}/blocks/{kind.replace('_', '-')}-block"
    return shape(page, {"type": one_of(kind), **required}, {"block_id": ID, **(optional or {})})


def _says_something(value: Any, at: str) -> None:
    if not {"text", "fields"} & set(json_object(value, at)):
        raise Broken("missing required field: text or fields", at, f"{KIT}/blocks/section-block")


BLOCKS: dict[str, Check] = {
    "section": every(
        _says_something,
        _block(
            "section",
            {},
            {
                "text": text(3000),
                "fields": array(text(2000), 10),
                "accessory": by_type({**_CLICKABLE, "image": IMAGE}, "a section"),
                "expand": boolean,
            },
        ),
    ),
    "header": _block("header", {"text": plain(150)}),
    "divider": _block("divider", {}),
    "context": _block(
        "context",
        {
            "elements": array(
                by_type({"image": IMAGE, "mrkdwn": text(3000), "plain_text": text(3000)}, "a context block"), 10
            )
        },
    ),
    "actions": every(
        _block("actions", {"elements": array(by_type(_CLICKABLE, "an actions block"), 25)}), ONE_ACTION_EACH
    ),
    "image": _block("image", {"image_url": web_address(3000), "alt_text": string(2000, 1)}, {"title": plain(2000)}),
    "input": _block(
        "input",
        {"label": plain(2000), "element": by_type(_FILLED, "an input block")},
        {"hint": plain(2000), "optional": boolean, "dispatch_action": boolean},
    ),
    "rich_text": _block("rich_text", {"elements": array(by_type(RICH_PARTS, "rich text"), ANY_LENGTH)}),
}

_EACH_ID_ONCE = distinct("block_id", lambda blocks: blocks, "one surface")


def _blocks(most: int, least: int) -> Check:
    return every(array(by_type(BLOCKS, "a surface"), most, least), _EACH_ID_ONCE)


_MESSAGE = _blocks(BLOCKS_OF_MESSAGE, 0)


def _has_submit(value: Any, at: str) -> None:
    view = json_object(value, at)
    if any(block["type"] == "input" for block in view["blocks"]) and "submit" not in view:
        raise Broken("submit is required when an input block is within the blocks array", at, VIEW_PAGE)


def _one_focus(value: Any, at: str) -> None:
    elements = [block["element"] for block in value["blocks"] if block["type"] == "input"]
    if sum(bool(element.get("focus_on_load")) for element in elements) > 1:
        raise Broken("only one element can have focus_on_load", at, VIEW_PAGE)


VIEW_PAGE = "https://docs.slack.dev/reference/views/modal-views"
_VIEW = every(
    shape(
        VIEW_PAGE,
        {"type": one_of("modal"), "title": plain(24), "blocks": _blocks(BLOCKS_OF_VIEW, 1)},
        {
            "close": plain(24),
            "submit": plain(24),
            "private_metadata": string(3000),
            "callback_id": string(255),
            "external_id": string(255),
            "clear_on_close": boolean,
            "notify_on_close": boolean,
            "submit_disabled": boolean,
        },
    ),
    _has_submit,
    _one_focus,
)


def checked_message(slack: Workspace, blocks: Any) -> list[Json]:
    """The blocks of a message as Slack keeps them: each block and element with an id.

    Raises:
        SlackRefusal: `invalid_blocks_format`, `invalid_blocks` or `msg_blocks_too_long`.
    """
    if blocks is None:
        return []
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in cast("list[Any]", blocks)):
        raise SlackRefusal("invalid_blocks_format", "blocks must be an array of objects")
    given = cast("list[Json]", blocks)
    _judge(_MESSAGE, given, "/blocks", "invalid_blocks", lambda: [_modelled(block) for block in given])
    if len(json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()) > SIZE_OF_BLOCKS:
        raise SlackRefusal("msg_blocks_too_long", f"the blocks have more than {SIZE_OF_BLOCKS} bytes as JSON")
    return _with_ids(slack, given)


def checked_view(slack: Workspace, view: Any) -> Json:
    """A modal as Slack keeps it: each block and element with an id.

    Raises:
        SlackRefusal: `invalid_arguments` or `view_too_large`.
    """
    _judge(_VIEW, view, "/view", "invalid_arguments", lambda: cast("Any", View)(**view).to_dict())
    given = cast("Json", view)
    if len(json.dumps(given)) > SIZE_OF_VIEW:
        raise SlackRefusal("view_too_large")
    return {**given, "blocks": _with_ids(slack, given["blocks"])}


def _judge(check: Check, value: Any, at: str, error: str, model: Callable[[], object]) -> None:
    try:
        check(value, at)
        model()
    except Broken as broken:
        raise broken.refusal(error) from None
    except SlackObjectFormationError as wrong:
        raise SlackRefusal(error, f"slack_sdk.models: {wrong}") from None


def _modelled(block: Json) -> None:
    parsed = cast("Any", Block).parse(block)
    if parsed is None:
        raise SlackObjectFormationError(f"no model for {block['type']}")
    parsed.to_dict()


def _with_ids(slack: Workspace, blocks: list[Json]) -> list[Json]:
    """https://docs.slack.dev/reference/block-kit/blocks: an id that is not specified is generated."""

    def named(element: Json) -> Json:
        clickable = element.get("type") in {**_CLICKABLE, **_FILLED}
        return {**element, "action_id": element.get("action_id") or slack.new_id("a")} if clickable else element

    kept: list[Json] = []
    for block in blocks:
        kept.append({**block, "block_id": block.get("block_id") or slack.new_id("b")})
        if block["type"] == "actions":
            kept[-1]["elements"] = [named(element) for element in block["elements"]]
        for name in {"accessory", "element"} & set(block):
            kept[-1][name] = named(block[name])
    return kept
