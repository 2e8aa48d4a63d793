"""JSON values as text: all of it, and what says most."""

from __future__ import annotations

import pytest

from broker.domain.values import answer_values, shown, telling_argument


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


def test_nothing_of_an_answer_is_left_out() -> None:
    result = {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "x": 1}, 7], "isError": True}
    parts = "\n".join(shown(value).text for value in answer_values(result))
    assert all(text in parts for text in ("a", '"x": 1', "7", '"isError": true'))


def test_what_is_only_protocol_in_an_answer_is_not_shown() -> None:
    meta = {"io.modelcontextprotocol/serverInfo": {"name": "git"}}
    result = {"content": [{"type": "text", "text": "a"}], "isError": False, "resultType": "complete", "_meta": meta}
    assert answer_values(result) == ["a"]
    assert len(answer_values({**result, "_meta": {**meta, "com.example/cost": 1}})) == 2
