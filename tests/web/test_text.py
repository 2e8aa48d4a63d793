"""Text from elsewhere is data, and all of it is seen."""

from __future__ import annotations

import re
from html import unescape

import pytest

from broker.web.text import sizes, visible
from tests.web.desk import Desk


def escaped(text: str) -> str:
    """What a page shows, without the mark on what is hidden."""
    return unescape(re.sub(r"</?b[^>]*>", "", visible(text)))


@pytest.mark.parametrize("char", ["\0", "\x1b", "\x7f", "\xa0", "\xad", "\u200b", "\u202e", "\u2066", "\ufeff"])
def test_a_character_that_is_not_seen_is_shown_as_its_escape(char: str) -> None:
    assert escaped(f"a{char}b") == f"a\\u{ord(char):04x}b"


@pytest.mark.parametrize(
    ("char", "escape"), [("\r", "\\r"), ("\U000e0041", "\\udb40\\udc41"), ("\U000e0101", "\\udb40\\udd01")]
)
def test_escapes_are_spelled_as_in_json(char: str, escape: str) -> None:
    assert escaped(char) == escape


def test_letters_of_any_script_and_line_breaks_stay_as_they_are() -> None:
    text = "Grüße\n\t日本語\u3000ไทย 🙂"
    assert escaped(text) == text


def test_an_escape_that_somebody_typed_looks_unlike_a_hidden_character() -> None:
    assert visible("\\u202e") == "\\u202e"
    assert visible("\u202e<b>") == '<b class="hidden-character">\\u202e</b>&lt;b&gt;'


def test_long_arguments_are_announced_with_their_names_and_sizes() -> None:
    assert sizes({"path": "/etc/motd"}) is None
    assert sizes({"path": "/etc/motd", "message": "x" * 200_000}) == (
        "2 arguments: path, 9 characters; message, 200,000 characters"
    )


HOSTILE = "<script>alert(1)</script>\u202e\"'{{7*7}}"


async def test_a_card_runs_and_hides_nothing_that_an_agent_sent(desk: Desk) -> None:
    arguments = {HOSTILE: HOSTILE, "more": [HOSTILE]}
    held = await desk.hold(HOSTILE, arguments=arguments, reason=HOSTILE, _meta={"v": HOSTILE})
    client = await desk.browser("approver")
    for page in ("/", f"/approvals/{held.id}"):
        text = (await client.get(page)).text
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "\\u202e" in text
        assert "{{7*7}}" in text


async def test_arguments_that_are_no_object_are_shown_too(desk: Desk) -> None:
    held = await desk.hold(arguments=["only", "a list"])
    assert "a list" in (await (await desk.browser("approver")).get(f"/approvals/{held.id}")).text
