"""How a call ended, as its answer says.

What belongs here: reading an answer that is there. What does not: passing it on (`delivery`), recording it (`record`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, cast

from broker.gateway.protocol import is_input_required
from broker.gateway.wire import RequestId, answers, loads


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended.

    Args:
        word: `succeeded`, `failed`, `answered` when that cannot be told, `asked` when the tool asks for input first
            (2026-07-28, Basic, Patterns, Multi Round-Trip Requests; what and with which state is not kept),
            `interrupted` when the upstream went away or answered with something else, `cancelled` when the caller
            left, `unreachable` when it was never asked.
        result: what the upstream answered, result or error, if it was looked into.
        why: what broke, for one that was interrupted.
        errored: whether the upstream answered with a protocol error, not with a result.
    """

    word: str
    result: Any = None
    why: str | None = None
    errored: bool = False


def failed(response: dict[str, Any]) -> bool:
    """Whether a response says that the call failed: a protocol error, or a tool's own (`isError`)."""
    result: Any = response.get("result")
    return not isinstance(result, dict) or cast("dict[str, Any]", result).get("isError") is True


def answered(response: dict[str, Any]) -> tuple[Any, bool]:
    """What a response answers, and whether that is a protocol error; some servers put a null for the other."""
    result: Any = response.get("result")
    return (response["error"], True) if result is None and "error" in response else (result, False)


def outcome_in(text: bytes, request_id: RequestId) -> Outcome | None:
    """The outcome that a JSON text of the upstream tells; None when it is not the response to `request_id`.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return _outcome(loads(text), request_id)
    except ValueError:
        # NaN and great depth are the client's to judge, and nothing that can be written down.
        outcome = _outcome(json.loads(text), request_id)
        return replace(outcome, result=None) if outcome is not None else None


def _outcome(message: Any, request_id: RequestId) -> Outcome | None:
    said = cast("list[Any]", message) if isinstance(message, list) else [message]  # 2025-03-26 lets a server batch
    response = next((one for one in said if answers(one, request_id)), None)
    if response is None:
        return None
    if is_input_required(response.get("result")):
        return Outcome("asked")
    said_no = "failed" if failed(response) else "succeeded"
    value, errored = answered(response)
    return Outcome(said_no, value, errored=errored)
