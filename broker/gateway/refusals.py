"""The broker's own answers to a tool call, in the shape of the caller's era.

What belongs here: a tool result that says why nothing ran, and the mark on the result of an approved call. What does
not: the sentences (`broker.domain.answers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from broker.domain.answers import META_KEY, Answer
from broker.gateway.inbound import Inbound
from broker.gateway.replies import json_reply
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import RequestId, result_message


def refusal(inbound: Inbound, told: Answer) -> dict[str, Any]:
    """The response that tells an agent why its call did not run: a tool result, never a protocol error."""
    return result_message(asked_id(inbound), told.result(modern=inbound.modern))


def refused(inbound: Inbound, told: Answer) -> UpstreamReply:
    """The same as a whole reply."""
    return json_reply(refusal(inbound, told))


def marked(response: Mapping[str, Any], told: Answer) -> Mapping[str, Any]:
    """The upstream's own response with the broker's block in its result's `_meta`; an error stays as it is."""
    result: Any = response.get("result")
    if not isinstance(result, dict):
        return response
    own = cast("dict[str, Any]", result)
    meta: Any = own.get("_meta")
    kept = cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}
    return {**response, "result": {**own, "_meta": {**kept, META_KEY: told.meta()}}}


def asked_id(inbound: Inbound) -> RequestId:
    """The id of the request that is answered.

    Raises:
        ValueError: it is no request.
    """
    if inbound.message is None or inbound.message.id is None:
        raise ValueError("only requests are answered")
    return inbound.message.id
