"""The rounds of one call: its tool asks for input before it goes on, and the same call comes again and brings it.

MCP 2026-07-28, Basic, Patterns, Multi Round-Trip Requests: a result of type `input_required` has `inputRequests`, a
`requestState`, or both. The retry is the original request with `inputResponses` where there were requests, and with
exactly that `requestState` where there was one, and without where there was none.

What belongs here: what of a request is of one round only, and what a continuation is recognised by. What does not:
approvals that wait for one (`broker.domain.moves`), sending it (`broker.gateway`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.domain.calls import Call
from broker.domain.canonical import Keyring, canonical_json

RESPONSES, STATE = "inputResponses", "requestState"


def input_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """What `params` of a request bring for a tool that asked for input; empty when nothing. A null brings nothing."""
    brought = {name: params[name] for name in (RESPONSES, STATE) if params.get(name) is not None}
    return {} if brought == {RESPONSES: {}} else brought


def without_input(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` as they are in every round: what people judge, and what is kept of the call."""
    return {name: value for name, value in params.items() if name not in (RESPONSES, STATE)}


def continuations(keyring: Keyring, call: Call, state: Any) -> list[str]:
    """What the continuation of `call` is recognised by: HMAC-SHA-256, hex, over canonical JSON.

    Args:
        call: as it was asked for; its params are those of every round.
        state: the `requestState` that the tool gave, which is its own business; None when it gave none.

    Returns:
        The mark, and those that it had under older secrets which still verify.

    Raises:
        ValueError: the state cannot be put in canonical form.
    """
    said = canonical_json([call.grant.id, call.upstream, call.tool, call.params, state])
    return keyring.signatures("continuation", said)
