from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from broker.domain.text import visible


@pytest.mark.parametrize("text", ["git_commit", "Grüße, 日本語, 🙂", 'a "quoted" \\ path', ""])
def test_text_that_is_seen_as_itself_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\u001b[31mred"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("abc\u202exfd.exe", "abc\\u202exfd.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\x7f\x9b", "\\u007f\\u009b"),
        ("line\u2028end", "line\\u2028end"),
        ("tag\U000e0041", "tag\\udb40\\udc41"),
        ("half\ud800", "half\\ud800"),
        ("fi\u3164ller\ufe0f", "fi\\u3164ller\\ufe0f"),
    ],
)
def test_what_acts_instead_of_being_seen_becomes_an_escape_of_json(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert json.loads(f'"{shown}"') == text


def test_no_control_bidirectional_or_format_character_of_unicode_gets_through() -> None:
    for number in range(sys.maxunicode + 1):
        char = chr(number)
        if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp"):
            assert visible(char).isascii(), hex(number)
            assert visible(char).isprintable(), hex(number)
