"""The one byte form of a JSON value, and the keys of the digests over it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.canonical import Keyring, canonical_json, depth_exceeds, new_id, new_token, token_hash

OLD, NEW = b"the old secret of 25 bytes", b"the new secret of 25 bytes"

words = st.text(st.characters(exclude_categories=("Cs",)))
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=10)


def nested(levels: int, *, by: str) -> Any:
    """A value of exactly so many levels of arrays or objects."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if by == "arrays" else {"a": value}
    return value


@given(values)
def test_canonical_json_reads_back_as_the_same_value(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(words, leaves))
def test_the_order_of_keys_makes_no_difference(value: dict[str, Any]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@given(st.integers(min_value=2**53, max_value=2**300))
def test_neighbouring_large_integers_stay_apart(number: int) -> None:
    assert canonical_json(number) == str(number).encode()
    assert canonical_json(number) != canonical_json(number + 1)


def test_keys_are_sorted_without_white_space_and_text_is_utf_8() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "ü\u2028"}) == '{"a":"ü\u2028","b":[1,2.5,null]}'.encode()


def test_one_and_one_point_nought_and_true_are_three_values() -> None:
    assert len({canonical_json(value) for value in (1, 1.0, True, "1")}) == 4


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), float("-inf"), "\ud800", {"\udfff": 1}, [{"a": "a\ud83d"}]]
)
def test_what_other_programs_could_not_read_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_json(bad)


@pytest.mark.parametrize("by", ["arrays", "objects"])
def test_a_hundred_levels_are_taken_and_a_hundred_and_one_refused(by: str) -> None:
    assert canonical_json(nested(100, by=by))
    with pytest.raises(ValueError, match="100 levels"):
        canonical_json(nested(101, by=by))


def test_depth_is_measured_without_recursion() -> None:
    assert depth_exceeds(nested(200_000, by="arrays"))
    assert not depth_exceeds([[] for _ in range(1000)])


# -- keys -------------------------------------------------------------------------------------------------------------


def test_what_an_old_secret_signed_still_verifies_after_rotation_and_no_longer_once_it_is_dropped() -> None:
    signature = Keyring([OLD]).sign("cookie", b"message")
    rotated = Keyring([NEW, OLD])
    assert rotated.verify("cookie", b"message", signature)
    assert rotated.sign("cookie", b"message") == Keyring([NEW]).sign("cookie", b"message")
    assert not Keyring([NEW]).verify("cookie", b"message", signature)


def test_a_signature_is_for_one_purpose_and_one_message() -> None:
    keyring = Keyring([NEW])
    signature = keyring.sign("cookie", b"message")
    assert not keyring.verify("fingerprint", b"message", signature)
    assert not keyring.verify("cookie", b"massage", signature)
    assert not keyring.verify("cookie", b"message", signature[:-1])
    assert not keyring.verify("cookie", b"message", "ünsigned")


@pytest.mark.parametrize("secrets", [[], [b"only fifteen by"], [NEW, b""]])
def test_no_secret_or_a_short_one_is_refused(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Keyring(secrets)


def test_identifiers_and_tokens_are_never_the_same_twice() -> None:
    assert len({new_id("apr") for _ in range(100)} | {new_token("bg") for _ in range(100)}) == 200
    assert new_id("apr").startswith("apr_")
    assert new_token("bg").startswith("bg_")


def test_a_token_cannot_be_read_from_its_hash() -> None:
    token = new_token("bg")
    assert token_hash(token) == token_hash(token)
    assert token not in token_hash(token)
    assert token_hash(token) != token_hash(token + "x")
