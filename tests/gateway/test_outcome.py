"""How a call ended, also where a server puts more into its answer than belongs there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.gateway.outcome import Outcome, answered, outcome_in

DONE: dict[str, Any] = {"content": [], "isError": False}
BROKEN: dict[str, Any] = {"code": -32000, "message": "broken"}


@pytest.mark.parametrize(
    ("members", "value", "errored"),
    [
        ({"result": DONE}, DONE, False),
        ({"result": DONE, "error": None}, DONE, False),
        ({"result": DONE, "error": BROKEN}, DONE, False),
        ({"error": BROKEN}, BROKEN, True),
        ({"error": BROKEN, "result": None}, BROKEN, True),
        ({"result": None}, None, False),
    ],
)
def test_a_result_beside_an_error_is_no_error(members: dict[str, Any], value: Any, errored: bool) -> None:
    response = {"jsonrpc": "2.0", "id": 1, **members}
    assert answered(response) == (value, errored)
    word = "succeeded" if value == DONE else "failed"
    assert outcome_in(json.dumps(response).encode(), 1) == Outcome(word, value, errored=errored)
