"""What the local Slack says that a reader sees, and what takes effect."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers.slack import MENTIONS, Effect, Slack
from tests.servers.slack.mrkdwn import read
from tests.servers.slack.reading import blocks

TAKES_EFFECT: dict[str, list[Effect]] = {
    "<!channel>": [Effect("broadcast", "channel")],
    "<!here|here>": [Effect("broadcast", "here")],
    "<@U012AB3CD>": [Effect("user", "U012AB3CD")],
    "<@U012AB3CD|bob>": [Effect("user", "U012AB3CD")],
    "<#C012AB3CD|general>": [Effect("channel", "C012AB3CD")],
    "<!subteam^S012AB3CD|@owners>": [Effect("group", "S012AB3CD")],
    "<https://evil.example|safe>": [Effect("link", "https://evil.example")],
    "<mailto:a@evil.example|safe>": [Effect("link", "mailto:a@evil.example")],
    "<!date^1392734382^{date}^https://evil.example|today>": [
        Effect("date", "1392734382^{date}"),
        Effect("link", "https://evil.example"),
    ],
    "so *bold* it is": [Effect("bold", "bold")],
    "(_slanted_)": [Effect("italic", "slanted")],
    "~gone~": [Effect("strike", "gone")],
    "`code`": [Effect("code", "code")],
    "```two\nlines```": [Effect("preformatted", "two\nlines")],
    "> said": [Effect("quote", "said")],
    "&gt; said": [Effect("quote", "said")],
    ":smile: :+1::skin-tone-3:": [Effect("emoji", "smile"), Effect("emoji", "+1::skin-tone-3")],
    "*<https://evil.example|safe>*": [Effect("link", "https://evil.example"), Effect("bold", "safe")],
}
PARSED_UNLESS_VERBATIM: dict[str, Effect] = {
    "see https://evil.example/x": Effect("link", "https://evil.example/x"),
    "see evil.com/x": Effect("link", "evil.com/x"),
    "ask a@evil.example": Effect("link", "a@evil.example"),
    "psst @here": Effect("broadcast", "here"),
    "join #general": Effect("channel", "general"),
}
HARMLESS = [
    "&lt;!channel&gt; &lt;@U012AB3CD&gt; &lt;https://evil.example|safe&gt;",
    "2*3*4 and snake_case_name at 12:30:45 ~ 3 ~",
    "&amp;lt;!channel&amp;gt;",
    "<nothing>",
]


@pytest.mark.parametrize("text", TAKES_EFFECT)
def test_markup_takes_effect_even_in_verbatim_text(text: str) -> None:
    assert read(text, verbatim=True).effects == TAKES_EFFECT[text]


@pytest.mark.parametrize("text", PARSED_UNLESS_VERBATIM)
def test_addresses_and_names_take_effect_unless_text_is_verbatim(text: str) -> None:
    assert read(text).effects == [PARSED_UNLESS_VERBATIM[text]]
    assert read(text, verbatim=True).effects == []


@pytest.mark.parametrize("text", HARMLESS)
def test_escaped_text_has_no_effect(text: str) -> None:
    assert read(text, verbatim=True).effects == []


def test_formatting_does_not_reach_into_code_but_mentions_do() -> None:
    assert read("`*a* :b: <@U012AB3CD>`", verbatim=True).kinds() == {"code", "user"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("*bold* &lt;b&gt; &amp;amp; `x < y`", "bold <b> &amp; x < y"),
        ("<https://evil.example|safe> <@U012AB3CD|bob>", "safe @bob"),
        ("&quot;&#42;", "&quot;&#42;"),
        ("```*raw* &lt;```", "*raw* <"),
    ],
)
def test_a_reader_sees_text_without_its_markup(text: str, shown: str) -> None:
    assert read(text, verbatim=True).text == shown


HOSTILE = "*x* <!channel> <@U012AB3CD> https://evil.example `y` &lt; :smile: @here"


def test_text_in_rich_text_is_literal_and_its_elements_take_effect() -> None:
    pieces: list[dict[str, Any]] = [{"type": "text", "text": HOSTILE}]
    block: dict[str, Any] = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": pieces}]}
    assert (blocks([block]).text, blocks([block]).effects) == (HOSTILE, [])
    pieces += [
        {"type": "user", "user_id": "U1"},
        {"type": "usergroup", "usergroup_id": "S1"},
        {"type": "broadcast", "range": "here"},
        {"type": "link", "url": "https://evil.example", "text": "safe"},
        {"type": "text", "text": "!", "style": {"bold": True}},
    ]
    seen = blocks([block])
    assert seen.of(*MENTIONS) == ["U1", "S1", "here"]
    assert seen.of("link", "bold") == ["https://evil.example", "!"]


def test_plain_text_has_only_emoji_and_those_can_be_switched_off() -> None:
    text = {"type": "plain_text", "text": HOSTILE}
    assert blocks([{"type": "section", "text": text}]).effects == [Effect("emoji", "smile")]
    assert blocks([{"type": "section", "text": {**text, "emoji": False}}]).effects == []


async def test_a_message_tells_what_is_seen_in_the_channel_and_in_the_notification(slack: Slack, client: Any) -> None:
    slack.channel("desktop")
    elements: list[dict[str, Any]] = [
        {"type": "button", "text": {"type": "plain_text", "text": "Open"}, "url": "https://broker.example"}
    ]
    given: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": "Run it?"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": "<https://a.example|Card>", "verbatim": True}},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "_soon_"}]},
        {"type": "actions", "elements": elements},
    ]
    for more in ({}, {"unfurl_links": False, "unfurl_media": False}):
        await client.chat_postMessage(channel="#desktop", text="Run *it*?", blocks=given, **more)
    loose, tight = (slack.seen(message) for message in slack.messages("#desktop"))
    assert tight.text == "Run it?\nCard\nsoon\n[Open]"
    assert tight.effects == [
        Effect("link", "https://a.example"),
        Effect("italic", "soon"),
        Effect("button link", "https://broker.example"),
    ]
    assert loose.of("unfurl") == ["https://a.example"]
    assert slack.notified(slack.messages("#desktop")[0]).of("bold") == ["it"]
