"""Masking what a policy redacts, and keeping what is under the mask sealed."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.canonical import Keyring
from broker.domain.paths import EVERY, Path, parse_path
from broker.domain.redaction import MASK, MOST_HIDDEN, masked, redacted, without_echoes
from broker.domain.sealing import sealed, unsealed
from tests.domain.values import KEYRING, call, held

ARGUMENTS: dict[str, Any] = {
    "password": "s3cret",
    "user": {"name": "ann", "keys": ["k1", "k2"]},
    "items": [{"secret": 1, "price": 2}, {"price": 3}, {"secret": None}],
    "a.b": True,
}

names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.none() | st.integers() | names, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=20
)
paths = st.lists(names | st.integers(0, 2) | st.just(EVERY), min_size=1, max_size=4).map(
    lambda steps: Path(("args", *steps))
)


def arguments_under(*redact: str) -> Any:
    return masked({"name": "pay", "arguments": ARGUMENTS}, [parse_path(text) for text in redact])["arguments"]


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("args.password", {"password": MASK}),
        ("args.user", {"user": MASK}),
        ("args.user.keys", {"user": {"name": "ann", "keys": MASK}}),
        ("args.user.keys[1]", {"user": {"name": "ann", "keys": ["k1", MASK]}}),
        ("args.user.keys[*]", {"user": {"name": "ann", "keys": [MASK, MASK]}}),
        ("args.user.*", {"user": {"name": MASK, "keys": MASK}}),
        ("args.items[*].secret", {"items": [{"secret": MASK, "price": 2}, {"price": 3}, {"secret": MASK}]}),
        ('args["a.b"]', {"a.b": MASK}),
    ],
)
def test_whatever_a_path_leads_to_is_masked_and_nothing_else(path: str, changes: dict[str, Any]) -> None:
    assert arguments_under(path) == {**ARGUMENTS, **changes}


def test_the_whole_arguments_can_be_masked() -> None:
    assert arguments_under("args") == MASK


def test_several_paths_mask_together_whatever_their_order() -> None:
    both = ("args.user.keys[0]", "args.user")
    assert arguments_under(*both) == arguments_under(*reversed(both)) == {**ARGUMENTS, "user": MASK}


@pytest.mark.parametrize(
    "path",
    ["args.none", "args.password.length", "args.items[3]", "args.user[0]", "args.items.secret", "args.none[*].x"],
)
def test_a_path_that_leads_to_nothing_leaves_the_very_same_call(path: str) -> None:
    asked = call(**ARGUMENTS)
    assert redacted(asked, (parse_path(path),)) is asked


@pytest.mark.parametrize("params", [{}, {"name": "pay"}, {"name": "pay", "arguments": None}])
def test_a_call_without_arguments_has_nothing_to_mask(params: dict[str, Any]) -> None:
    assert masked(params, [parse_path("args.password")]) is params


def test_what_is_not_masked_is_shared_and_the_call_stays_as_it_was() -> None:
    before = copy.deepcopy(ARGUMENTS)
    seen = arguments_under("args.items[0].secret")
    assert seen["user"] is ARGUMENTS["user"]
    assert seen["items"][1] is ARGUMENTS["items"][1]
    assert before == ARGUMENTS


@given(values, st.lists(paths, max_size=3))
def test_after_masking_no_path_leads_to_anything_but_a_mask(value: Any, redact: list[Path]) -> None:
    before = copy.deepcopy(value)
    seen = masked({"arguments": value}, redact)["arguments"]
    assert value == before
    assert all(found == MASK for path in redact for found in _led_to(seen, path.steps[1:]))
    assert masked({"arguments": seen}, redact)["arguments"] == seen


def _led_to(value: Any, steps: tuple[Any, ...]) -> list[Any]:
    """What a path leads to, found another way: by walking everything and comparing where it lies."""
    if not steps:
        return [value]
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inside = list(cast("dict[str, Any]", value).items())
    elif isinstance(value, list):
        inside = list(enumerate(cast("list[Any]", value)))
    return [found for key, inner in inside if steps[0] in (EVERY, key) for found in _led_to(inner, steps[1:])]


# -- what comes back --------------------------------------------------------------------------------------------------

LONG = 'pass"wörd'


def answered(answer: Any, hidden: Any) -> Any:
    """What is kept of the answer to a call whose `hidden` is masked."""
    asked = call(hidden=hidden, shown="plain")
    return without_echoes(answer, asked, redacted(asked, (parse_path("args.hidden"),)))


@pytest.mark.parametrize(
    ("hidden", "answer", "kept"),
    [
        (LONG, f"set to {LONG}, twice {LONG}", f"set to {MASK}, twice {MASK}"),
        (LONG, json.dumps({"set": LONG}), f'{{"set": "{MASK}"}}'),
        (LONG, json.dumps({"set": LONG}, ensure_ascii=False), f'{{"set": "{MASK}"}}'),
        (LONG, {LONG: [{"a": LONG}, True, None, 1.5]}, {MASK: [{"a": MASK}, True, None, 1.5]}),
        ({"key-of-it": ["inner"]}, "an inner key-of-it", f"an {MASK} {MASK}"),
        (918273645, {"pin": 918273645, "told": "it is 918273645."}, {"pin": MASK, "told": f"it is {MASK}."}),
        ("abcd", "abcdef", f"{MASK}ef"),
        ([LONG, LONG + "!"], f"{LONG}!", MASK),
        ("123", ["123", "4123", "cvv: 123."], [MASK, "4123", f"cvv: {MASK}."]),
        ("§", "§ (\\u00a7)", f"{MASK} ({MASK})"),
        ([7, True, None, ""], ["7", 7, 77, True, None, ""], [MASK, MASK, 77, True, None, ""]),
        (list(range(MOST_HIDDEN + 1)), {"any": "thing"}, MASK),
    ],
)
def test_what_an_answer_repeats_of_what_is_masked_is_masked_too(hidden: Any, answer: Any, kept: Any) -> None:
    assert answered(answer, hidden) == kept


def test_the_answer_to_a_call_of_which_nothing_is_masked_is_the_very_same() -> None:
    asked, answer = call(a="plain"), {"told": "plain"}
    assert without_echoes(answer, asked, asked) is answer
    assert answered({"told": "plain"}, "other") == {"told": "plain"}


# -- under the mask ---------------------------------------------------------------------------------------------------

OLD, NEW = Keyring([b"the old secret of 25 bytes"]), Keyring([b"the new secret of 25 bytes"])
BOTH = Keyring([b"the new secret of 25 bytes", b"the old secret of 25 bytes"])
PARAMS: dict[str, Any] = {"name": "press", "arguments": {"password": "s3cret ü\u202e", "n": 2**200, "half": 1.0}}


def test_what_was_sealed_is_opened_exactly_as_it_was() -> None:
    approval = replace(held(), sealed=sealed(KEYRING, "apr_1", PARAMS))
    opened = unsealed(KEYRING, approval)
    assert opened is not None
    assert json.dumps(opened.params) == json.dumps(PARAMS)
    assert replace(opened, params=approval.call.params) == approval.call


def test_nothing_of_it_can_be_read_and_no_two_seals_are_the_same() -> None:
    first, second = (sealed(KEYRING, "apr_1", PARAMS) for _ in range(2))
    assert first != second
    assert "s3cret" not in first


def test_a_call_of_which_nothing_is_sealed_is_as_it_is() -> None:
    approval = held()
    assert unsealed(KEYRING, approval) is approval.call


def test_a_rotated_secret_still_opens_it_and_a_lost_one_does_not() -> None:
    approval = replace(held(), sealed=sealed(OLD, "apr_1", PARAMS))
    opened = unsealed(BOTH, approval)
    assert opened is not None
    assert opened.params == PARAMS
    assert unsealed(NEW, approval) is None


def test_the_seal_of_one_approval_does_not_open_under_another() -> None:
    assert unsealed(KEYRING, replace(held(), id="apr_2", sealed=sealed(KEYRING, "apr_1", PARAMS))) is None


@pytest.mark.parametrize("text", ["", "x", "not base64 ü", "AAAA", "A" * 200])
def test_what_is_no_seal_is_not_opened(text: str) -> None:
    assert unsealed(KEYRING, replace(held(), sealed=text)) is None


@given(st.integers(0, 1000), st.integers(1, 255))
def test_a_seal_of_which_any_byte_was_changed_is_not_opened(place: int, change: int) -> None:
    whole = bytearray(base64.b64decode(sealed(KEYRING, "apr_1", PARAMS)))
    whole[place % len(whole)] ^= change
    assert unsealed(KEYRING, replace(held(), sealed=base64.b64encode(whole).decode())) is None
