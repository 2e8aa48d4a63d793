"""Composition objects, block elements and rich text, as Slack documents them.

What belongs here: what stands in blocks. What does not: blocks, and messages and views as a whole (blocks.py).
Elements that this project has no use for are not known here: what is refused as unsupported may exist in Slack.
"""

from __future__ import annotations

from typing import Any

from tests.servers.slack.shapes import (
    Broken,
    Check,
    array,
    boolean,
    by_type,
    distinct,
    every,
    integer,
    json_object,
    one_of,
    shape,
    string,
    web_address,
)

KIT = "https://docs.slack.dev/reference/block-kit"
OBJECTS, ELEMENTS = f"{KIT}/composition-objects", f"{KIT}/block-elements"

ID = string(255, 1)
"""`action_id` and `block_id`."""
ANY_LENGTH = 1_000_000
"""No limit is documented; that of all blocks together holds."""


def plain(most: int) -> Check:
    """A text object that must be plain."""
    return shape(
        f"{OBJECTS}/text-object",
        {"type": one_of("plain_text"), "text": string(most, 1)},
        {"emoji": boolean},
    )


def text(most: int) -> Check:
    """A text object of either kind."""
    marked = shape(
        f"{OBJECTS}/text-object",
        {"type": one_of("mrkdwn"), "text": string(most, 1)},
        {"verbatim": boolean},
    )
    return by_type({"plain_text": plain(most), "mrkdwn": marked}, "a text object")


STYLE = one_of("primary", "danger")

CONFIRM = shape(
    f"{OBJECTS}/confirmation-dialog-object",
    {"title": plain(100), "text": plain(300), "confirm": plain(30), "deny": plain(30)},
    {"style": STYLE},
)


def option(label: Check) -> Check:
    """An item that can be chosen."""
    return shape(f"{OBJECTS}/option-object", {"text": label, "value": string(150, 1)}, {"description": plain(75)})


def _typed(page: str, kind: str, required: dict[str, Check], optional: dict[str, Check]) -> Check:
    return shape(f"{ELEMENTS}/{page}", {"type": one_of(kind), **required}, optional)


BUTTON = _typed(
    "button-element",
    "button",
    {"text": plain(75)},
    {
        "action_id": ID,
        "url": web_address(3000),
        "value": string(2000),
        "style": STYLE,
        "confirm": CONFIRM,
        "accessibility_label": string(75),
    },
)

IMAGE = _typed("image-element", "image", {"image_url": web_address(3000), "alt_text": string(2000, 1)}, {})

_FOCUS: dict[str, Check] = {"action_id": ID, "focus_on_load": boolean}

RADIO_BUTTONS = _typed(
    "radio-button-group-element",
    "radio_buttons",
    {"options": array(option(text(75)), 10)},
    {**_FOCUS, "initial_option": option(text(75)), "confirm": CONFIRM},
)

CHECKBOXES = _typed(
    "checkboxes-element",
    "checkboxes",
    {"options": array(option(text(75)), 10)},
    {**_FOCUS, "initial_options": array(option(text(75)), 10), "confirm": CONFIRM},
)

STATIC_SELECT = _typed(
    "select-menu-element#static_select",
    "static_select",
    {"options": array(option(plain(75)), 100)},
    {**_FOCUS, "placeholder": plain(150), "initial_option": option(plain(75)), "confirm": CONFIRM},
)

OVERFLOW = _typed(
    "overflow-menu-element",
    "overflow",
    {"options": array(option(plain(75)), 5)},
    {"action_id": ID, "confirm": CONFIRM},
)

_DISPATCH = shape(
    f"{OBJECTS}/dispatch-action-configuration-object",
    {},
    {"trigger_actions_on": array(one_of("on_enter_pressed", "on_character_entered"), 2)},
)


def _lengths_agree(value: Any, at: str) -> None:
    element = json_object(value, at)
    least, most = element.get("min_length", 0), element.get("max_length", 3000)
    if least > most:
        raise Broken("min_length must not be more than max_length", at)
    if not (element.get("initial_value") is None or least <= len(element["initial_value"]) <= most):
        raise Broken("the initial value is too long or too short", f"{at}/initial_value")


PLAIN_TEXT_INPUT = every(
    _typed(
        "plain-text-input-element",
        "plain_text_input",
        {},
        {
            **_FOCUS,
            "initial_value": string(3000),
            "multiline": boolean,
            "min_length": integer(0, 3000),
            "max_length": integer(1, 3000),
            "dispatch_action_config": _DISPATCH,
            "placeholder": plain(150),
        },
    ),
    _lengths_agree,
)

# -- Rich text, https://docs.slack.dev/reference/block-kit/blocks/rich-text-block

RICH = f"{KIT}/blocks/rich-text-block"

_TEXT_STYLE = shape(
    f"{RICH}#element-types",
    {},
    dict.fromkeys(("bold", "italic", "strike", "code", "underline"), boolean),
)
_MENTION_STYLE = shape(
    f"{RICH}#element-types",
    {},
    dict.fromkeys(("bold", "italic", "strike", "highlight", "client_highlight", "unlink"), boolean),
)


def _piece(kind: str, required: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    return shape(f"{RICH}#{kind}-element-type", {"type": one_of(kind), **required}, optional)


RICH_TEXT = _piece("text", {"text": string(ANY_LENGTH, 1)}, {"style": _TEXT_STYLE})
RICH_LINK = _piece(
    "link", {"url": web_address(3000)}, {"text": string(ANY_LENGTH, 1), "unsafe": boolean, "style": _TEXT_STYLE}
)

PIECES: dict[str, Check] = {
    "text": RICH_TEXT,
    "link": RICH_LINK,
    "broadcast": _piece("broadcast", {"range": one_of("here", "channel", "everyone")}),
    "channel": _piece("channel", {"channel_id": ID}, {"style": _MENTION_STYLE}),
    "user": _piece("user", {"user_id": ID}, {"style": _MENTION_STYLE}),
    "usergroup": _piece("usergroup", {"usergroup_id": ID}, {"style": _MENTION_STYLE}),
    "emoji": _piece("emoji", {"name": string(100, 1)}, {"unicode": string(100), "skin_tone": integer(1, 6)}),
    "date": _piece(
        "date",
        {"timestamp": integer(0, 2**40), "format": string(ANY_LENGTH, 1)},
        {"url": web_address(3000), "fallback": string(ANY_LENGTH, 1)},
    ),
}

_BORDER: dict[str, Check] = {"border": one_of(0, 1)}
_IN_LINE = array(by_type(PIECES, "rich text"), ANY_LENGTH, 0)

RICH_SECTION = _typed("rich-text-section-element", "rich_text_section", {"elements": _IN_LINE}, {})

RICH_PARTS: dict[str, Check] = {
    "rich_text_section": RICH_SECTION,
    "rich_text_list": _typed(
        "rich-text-list-element",
        "rich_text_list",
        {"style": one_of("bullet", "ordered"), "elements": array(RICH_SECTION, ANY_LENGTH, 0)},
        {**_BORDER, "indent": integer(0, 8), "offset": integer(0, ANY_LENGTH)},
    ),
    "rich_text_preformatted": _typed(
        "rich-text-preformatted-element",
        "rich_text_preformatted",
        {"elements": array(by_type({"text": RICH_TEXT, "link": RICH_LINK}, "preformatted text"), ANY_LENGTH, 0)},
        _BORDER,
    ),
    "rich_text_quote": _typed("rich-text-quote-element", "rich_text_quote", {"elements": _IN_LINE}, _BORDER),
}

ONE_ACTION_EACH = distinct("action_id", lambda block: block["elements"], "its block")
"""https://docs.slack.dev/reference/block-kit/block-elements/button-element#fields"""
