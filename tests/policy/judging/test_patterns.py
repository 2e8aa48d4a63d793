"""Regular expressions: what they cost, whatever the pattern and the text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.policy.facts import Unjudged
from broker.policy.judging.automata import is_small
from broker.policy.judging.patterns import WORK, compile_pattern
from tests.policy.rulebooks import timed

LONGEST = 4 << 20

ORDINARY = [
    "password",
    "^/run/user/0/",
    "(?i)password",
    "BEGIN (RSA|OPENSSH|EC) PRIVATE KEY",
    r"[\w.+-]+@[\w-]+\.[\w.]+",
    r"rm\s+-rf\s+/",
    r"(?i)\b(drop|truncate)\s+table\b",
    r"^(https?)://[^/]*\.internal(/|$)",
    r"^[a-z0-9_-]{1,64}$",
    r"gh[pousr]_[A-Za-z0-9]{36}",
    r"(^|/)\.\./",
    "[^\\x00-\\x7f]",
    "(x+x+)+y",
    "(.*)(.*)(.*)(.*)(.*)[^ab]",
]

BOMBS = [
    "(?:a|b)*a(?:a|b){12}c",
    "(?:a|b)*a(?:a|b){1000}c",
    "((a|b){50}){20}c",
    "c(a|b){12}a(a|b)*",
    "(?:[ab]?[ab]?[ab]?){100}c",
    r"(?:\w?\W?){200}c",
    r"\pL{15}c",
]

nodes = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", "é", "[à-ü]", r"\b", "^", "$"]),
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})")
        | st.tuples(inner, st.sampled_from(["*", "+?", "?", "{2,9}", "{12}"])).map(lambda two: f"(?:{two[0]}){two[1]}")
    ),
    max_leaves=6,
)


def text_of(alphabet: str, length: int) -> str:
    """Letters of an alphabet in Latin-1, by chance; a translation of bytes, since choosing one by one takes seconds."""
    letters = bytes(ord(alphabet[byte % len(alphabet)]) for byte in range(256))
    return random.Random(1).randbytes(length).translate(letters).decode("latin-1")


LONG = text_of("ab", LONGEST)


@pytest.mark.parametrize("pattern", ORDINARY)
def test_an_ordinary_pattern_is_looked_for_in_the_longest_text_quickly(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    assert isinstance(timed(lambda: compiled.found_in(LONG)[0]), bool)


@pytest.mark.parametrize("pattern", BOMBS)
def test_a_pattern_that_could_be_slow_is_looked_for_in_as_much_text_as_is_quick(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    with pytest.raises(Unjudged, match="4194304 bytes of text are more than can be searched quickly"):
        timed(lambda: compiled.found_in(LONG))
    longest = (WORK - 500) // compiled.weight
    assert timed(lambda: compiled.found_in(LONG[:longest])) == (False, WORK - 500 - longest * compiled.weight)


@pytest.mark.parametrize("pattern", ["(" * 2000 + ")" * 2000, "(a?){1000}", "((a{9}){9}){9}", "a|" * 1999 + "a"])
def test_no_pattern_is_slow_to_load(pattern: str) -> None:
    assert timed(lambda: compile_pattern(pattern)).weight > 0


@settings(max_examples=60, deadline=None)
@given(nodes, st.sampled_from(["ab", "abé", "aé\n b"]))
def test_a_pattern_that_is_said_to_be_small_is_quick_on_every_text(pattern: str, alphabet: str) -> None:
    if is_small(pattern):
        search = (
            compile_pattern(pattern + "Q").found_in if is_small(pattern + "Q") else compile_pattern(pattern).found_in
        )
        timed(lambda: search(text_of(alphabet, 1 << 17)))


@pytest.mark.parametrize("pattern", BOMBS)
def test_a_pattern_whose_automaton_is_large_or_unread_is_never_said_to_be_small(pattern: str) -> None:
    assert not is_small(pattern)


def test_a_text_that_is_none_is_an_error() -> None:
    with pytest.raises(Unjudged, match="half of a surrogate pair"):
        compile_pattern("a").found_in("a\ud800")
