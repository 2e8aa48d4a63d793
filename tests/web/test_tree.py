"""The tree of a value: what fits is whole, what does not is shortened evenly and says so."""

from __future__ import annotations

import json
from html import unescape
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.web.tree import Node, tree
from tests.web.drawing import base64_of, png

ROOM = 10_000
HOSTILE = "\u202ea" * 20_000


def outline(it: Node) -> Any:
    """What a tree says: the text of a leaf, the members of all else."""
    return {str(name): outline(inner) for name, inner in it.members} if it.members else unescape(str(it.html))


def members_of(it: Node) -> dict[str, Node]:
    return {str(name): inner for name, inner in it.members}


def size(it: Node) -> int:
    """The bytes of its HTML, as the card's templates make it."""
    return 150 + len(it.html.encode()) + sum(len(name.encode()) + size(inner) for name, inner in it.members)


def test_a_value_that_fits_is_whole_with_the_kind_of_each_member() -> None:
    found = tree({"a": 1, "b": {"c": [True, None, "x <b>"]}, "d": "", "e": {}}, ROOM)
    assert found.whole
    assert outline(found) == {"a": "1", "b": {"c": {"0": "true", "1": "null", "2": "x <b>"}}, "d": "", "e": "{}"}
    assert {name: inner.kind for name, inner in members_of(found).items()} == {
        "a": "number",
        "b": "object, 1 member",
        "d": "text, empty",
        "e": "object, empty",
    }


def test_a_number_and_a_text_that_look_the_same_are_told_apart() -> None:
    assert [inner.kind for _, inner in tree([5, "5", True, "true"], ROOM).members] == [
        *("number", "text", "true or false", "text")
    ]


def test_lines_of_code_are_numbered_and_prose_is_not() -> None:
    code, prose = "def f(x):\n    return x\n", "Dear all,\n\nnothing new.\n"
    found = members_of(tree({"code": code, "prose": prose}, ROOM))
    assert (found["code"].kind, found["prose"].kind) == (
        "code, 2 lines, with white space around it",
        "text, 3 lines, with white space around it",
    )
    assert str(found["code"].html) == "<i></i>def f(x):\n<i></i>    return x\n"
    assert str(found["prose"].html) == prose


def test_a_picture_is_a_picture_as_far_as_all_of_them_can_be_shown() -> None:
    large = [base64_of(png(4000 + n, 3900)) for n in range(3)]
    found = [inner for _, inner in tree(large, 200_000).members]
    assert [inner.picture is not None for inner in found] == [True, True, False]
    assert found[0].kind.startswith("PNG picture, 4,000 by 3,900 pixels, ")
    assert found[2].kind == "text"


@pytest.mark.parametrize("large", ["x" * 200_000, HOSTILE, ["y"] * 50_000, {str(n): [n] * 99 for n in range(500)}])
def test_what_is_large_leaves_its_neighbours_whole_and_says_how_much_is_missing(large: Any) -> None:
    found = tree({"large": large, "last": "rm -rf /", "list": ["a", "b"]}, ROOM)
    assert not found.whole
    members = members_of(found)
    assert "more" in members["large"].left_out or not members["large"].whole
    assert outline(members["last"]) == "rm -rf /"
    assert outline(members["list"]) == {"0": "a", "1": "b"}
    assert size(found) < ROOM * 1.1


def test_a_name_that_is_cut_is_missed_too() -> None:
    found = tree({"n" * 500: 1}, ROOM)
    assert not found.whole
    assert "more characters" in found.members[0][0]


def test_a_cut_text_says_how_many_characters_are_missing() -> None:
    found = tree("x" * 20_000, ROOM)
    assert len(found.html) + int(found.left_out.split()[0].replace(",", "")) == 20_000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=100) | st.just(HOSTILE),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text("abc<é", max_size=20), inner, max_size=10),
    max_leaves=20,
)


@settings(max_examples=25)
@given(VALUES, st.integers(2_000, 40_000))
def test_no_value_takes_much_more_than_its_room(value: Any, room: int) -> None:
    found = tree(value, room)
    assert size(found) < room * 1.1 + 500
    if len(json.dumps(value)) < room / 50:
        assert found.whole
