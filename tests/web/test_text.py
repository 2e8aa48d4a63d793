"""Text from elsewhere is data, and all of it is seen."""

from __future__ import annotations

import re
from html import unescape

import pytest

from broker.web.text import answer_values, shown, sizes, telling_argument, visible
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


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("5", "text", "5"),
        (5, "number", "5"),
        (True, "true or false", "true"),
        (None, "null", "null"),
        ("", "text, empty", ""),
        (" x", "text, with white space around it", " x"),
        (12345678901234567890123, "number", "12345678901234567890123"),
        ({"a": [1]}, "object", '{\n  "a": [\n    1\n  ]\n}'),
    ],
)
def test_a_value_is_shown_whole_and_with_its_kind(value: object, kind: str, text: str) -> None:
    assert (shown(value).kind, shown(value).text) == (kind, text)


def test_the_line_of_a_call_shows_the_argument_that_says_most() -> None:
    told = telling_argument({"timeout": 5, "note": "x", "command": "rm -rf\n /"})
    assert told is not None
    assert (told.name, told.text, told.others) == ("command", "rm -rf /", 2)


def test_the_line_of_a_call_cuts_a_name_that_would_fill_it() -> None:
    told = telling_argument({"n" * 300: "x"})
    assert told is not None
    assert told.name == "n" * 24 + "…"


def test_long_arguments_are_announced_with_their_names_and_sizes() -> None:
    assert sizes({"path": "/etc/motd"}) is None
    assert sizes({"path": "/etc/motd", "message": "x" * 200_000}) == (
        "2 arguments: path, 9 characters; message, 200,000 characters"
    )


def test_nothing_of_an_answer_is_left_out() -> None:
    result = {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "x": 1}, 7], "isError": True}
    parts = "\n".join(shown(value).text for value in answer_values(result))
    assert all(text in parts for text in ("a", '"x": 1', "7", '"isError": true'))


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


def test_what_is_only_protocol_in_an_answer_is_not_shown() -> None:
    meta = {"io.modelcontextprotocol/serverInfo": {"name": "git"}}
    result = {"content": [{"type": "text", "text": "a"}], "isError": False, "resultType": "complete", "_meta": meta}
    assert answer_values(result) == ["a"]
    assert len(answer_values({**result, "_meta": {**meta, "com.example/cost": 1}})) == 2
