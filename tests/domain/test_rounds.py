"""What of a request is of one round of its call, and what a continuation is recognised by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.domain.canonical import Keyring
from broker.domain.people import GrantRef
from broker.domain.rounds import continuations, input_of, without_input
from tests.domain.values import GRANT, KEYRING, call

PARAMS: dict[str, Any] = {"name": "press", "arguments": {"key": 1}}


@pytest.mark.parametrize(
    ("brought", "input_"),
    [
        ({}, {}),
        ({"requestState": None, "inputResponses": None}, {}),
        ({"inputResponses": {}}, {}),
        ({"requestState": ""}, {"requestState": ""}),
        ({"requestState": "s", "inputResponses": {}}, {"requestState": "s", "inputResponses": {}}),
        ({"inputResponses": {"who": {}}}, {"inputResponses": {"who": {}}}),
        ({"RequestState": "s"}, {}),
    ],
)
def test_what_a_request_brings(brought: dict[str, Any], input_: dict[str, Any]) -> None:
    assert input_of({**PARAMS, **brought}) == input_
    rest = without_input({**PARAMS, **brought})
    assert rest == {**PARAMS, **{name: value for name, value in brought.items() if name == "RequestState"}}


def test_a_continuation_is_recognised_by_grant_server_tool_params_and_state() -> None:
    asked = call(key=1)
    others = [
        (replace(asked, grant=GrantRef("grant_2", GRANT.label, GRANT.owner)), "s"),
        (replace(asked, upstream="other"), "s"),
        (replace(asked, tool="pull"), "s"),
        (call(key=2), "s"),
        (replace(asked, params={**asked.params, "more": None}), "s"),
        (asked, "t"),
        (asked, None),
        (asked, ""),
    ]
    marks = {continuations(KEYRING, one, state)[0] for one, state in [(asked, "s"), *others]}
    assert len(marks) == 1 + len(others)
    assert continuations(KEYRING, replace(asked, id="call_2"), "s") == continuations(KEYRING, asked, "s")


def test_an_older_secret_still_recognises_it() -> None:
    asked, new = call(), b"another secret, as long as that"
    rotated = Keyring([new, b"a secret of the tests, long enough"])
    assert continuations(KEYRING, asked, "s")[0] in continuations(rotated, asked, "s")
    assert continuations(KEYRING, asked, "s")[0] not in continuations(Keyring([new]), asked, "s")
