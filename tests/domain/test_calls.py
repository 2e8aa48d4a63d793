"""What a retry is recognised by, and what of a request's params lasts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calls import Call, arguments_digest, fingerprints, lasting_params, transport_params
from broker.domain.canonical import Keyring
from tests.domain.values import DEFINITION, GRANT, KEYRING, call

TRANSPORT: dict[str, Any] = {
    "progressToken": 7,
    "traceparent": "00-1-2-01",
    "tracestate": "a=b",
    "baggage": "c=d",
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"a": {}},
}
PARAMS: dict[str, Any] = {"name": "press", "arguments": {"key": 1}, "later": "unknown field"}


def fingerprint(keyring: Keyring, asked: Call, definition: Any) -> str:
    """The present one."""
    return fingerprints(keyring, asked, definition)[0]


keys = st.sampled_from([*TRANSPORT, "tenant", "vendor/hint"])
metas = st.dictionaries(keys, st.integers())


def test_what_belongs_to_one_request_is_left_out_and_everything_else_lasts() -> None:
    assert lasting_params({**PARAMS, "_meta": {**TRANSPORT, "tenant": "a"}}) == {**PARAMS, "_meta": {"tenant": "a"}}
    assert lasting_params({**PARAMS, "_meta": TRANSPORT}) == PARAMS
    assert lasting_params(PARAMS) == PARAMS


@given(metas, metas)
def test_stored_params_are_carried_by_the_transport_keys_of_the_present_request(
    asked: dict[str, int], live: dict[str, int]
) -> None:
    stored = lasting_params({**PARAMS, "_meta": asked})
    sent = transport_params(stored, {**PARAMS, "arguments": {"key": 2}, "_meta": live})
    assert lasting_params(sent) == stored
    assert {k: v for k, v in sent.get("_meta", {}).items() if k in TRANSPORT} == {
        k: v for k, v in live.items() if k in TRANSPORT
    }


def test_a_meta_that_is_no_object_does_not_last() -> None:
    assert lasting_params({**PARAMS, "_meta": [1]}) == PARAMS


def test_the_same_call_again_has_the_same_fingerprint() -> None:
    again = replace(call(key=1, other=2), params={"arguments": {"other": 2, "key": 1}, "name": "press"}, session="s")
    assert fingerprint(KEYRING, call(key=1, other=2), DEFINITION) == fingerprint(KEYRING, again, DEFINITION)


def test_progress_token_and_trace_context_are_no_part_of_it() -> None:
    marks = {
        fingerprint(KEYRING, replace(call(), params=lasting_params({**PARAMS, "_meta": meta})), DEFINITION)
        for meta in ({}, TRANSPORT, {**TRANSPORT, "progressToken": "other", "traceparent": "00-3-4-01"})
    }
    assert len(marks) == 1


def test_anything_else_makes_it_another_call() -> None:
    asked = replace(call(), params=PARAMS)
    others = [
        replace(asked, grant=replace(GRANT, id="grant_2")),
        replace(asked, upstream="other"),
        replace(asked, tool="release"),
        replace(asked, params={**PARAMS, "later": "another"}),
        replace(asked, params={**PARAMS, "_meta": {"tenant": "a"}}),
        *(replace(asked, params={**PARAMS, "arguments": {"key": key}}) for key in (2, 1.0, True, "1", None, [1])),
    ]
    marks = [fingerprint(KEYRING, each, DEFINITION) for each in (asked, *others)]
    definitions = [None, {}, {**DEFINITION, "description": "now it says something else"}]
    marks += [fingerprint(KEYRING, asked, definition) for definition in definitions]
    marks.append(fingerprint(Keyring([b"another secret of the tests"]), asked, DEFINITION))
    assert len(set(marks)) == len(marks)


def test_a_call_that_has_no_canonical_form_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match=r"."):
        fingerprint(KEYRING, call(text="\ud800"), DEFINITION)


def test_after_a_rotation_a_call_is_recognised_by_the_old_fingerprint_too() -> None:
    asked, newer = call(key=1), b"the next secret of the tests"
    [before] = fingerprints(Keyring([b"an old secret of the tests"]), asked, DEFINITION)
    rotated = fingerprints(Keyring([newer, b"an old secret of the tests"]), asked, DEFINITION)
    assert rotated == [fingerprint(Keyring([newer]), asked, DEFINITION), before]


def test_the_digest_of_the_arguments_is_keyed_and_over_all_params() -> None:
    digests = {
        arguments_digest(KEYRING, call(key=1)),
        arguments_digest(KEYRING, call(key=2)),
        arguments_digest(Keyring([b"another secret of the tests"]), call(key=1)),
        fingerprint(KEYRING, call(key=1), DEFINITION),
    }
    assert len(digests) == 4


@pytest.mark.parametrize(("given_arguments", "seen"), [(None, {}), ([1], {}), ({"a": 1}, {"a": 1})])
def test_arguments_that_are_no_object_are_none(given_arguments: Any, seen: dict[str, Any]) -> None:
    assert replace(call(), params={"name": "press", "arguments": given_arguments}).arguments == seen
