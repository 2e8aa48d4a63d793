"""The bridge's own answers, for when there is none of the broker: sentences that a person or a model can act on.

What belongs here: words, and the shape they get. What does not: when they are needed.
"""

from __future__ import annotations

from typing import Any, cast

from broker.bridge.http import ShutOut
from broker.domain import answers
from broker.domain.answers import Answer, Status
from broker.errors import BrokerError, UpstreamInterrupted
from broker.gateway.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Message,
    error_message,
    result_message,
)

UNKNOWN_GRANT = (
    "The grant in BROKER_GRANT is unknown, expired or revoked: ask your administrator for a new one "
    "(broker grant create)."
)


def refused(status: int, said: Any, url: str) -> str | None:
    """What a person is told of an HTTP status that means that nothing ran; None for any other.

    Args:
        said: the body, parsed; its own error message is better than ours.
    """
    match status:
        case 401:
            return UNKNOWN_GRANT
        case 403:
            return _message_in(said) or f"{url} does not let this grant in."
        case 404 if not method_is_unknown(said):
            return f"The broker has no upstream at {url}: its name, the last part, is one of those in broker.toml."
        case _ if 300 <= status < 400:
            return f"{url} redirects to elsewhere, which is not followed: set BROKER_URL to where the broker is."
        case _ if 400 <= status < 500 and _message_in(said) is None:
            return f"{url} does not take the request (HTTP {status}): is BROKER_URL a broker?"
        case _:
            return None


def method_is_unknown(said: Any) -> bool:
    """Whether a server says that it has no such method, for which modern ones use 404 too (2026-07-28, Transports)."""
    error: Any = cast("dict[str, Any]", said).get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and cast("dict[str, Any]", error).get("code") == METHOD_NOT_FOUND


def answer_to(message: Message, error: BrokerError, *, refusal: bool) -> dict[str, Any]:
    """The response to a request that failed with `error`.

    A tool call that could not be sent or that got no answer gets a tool result, which models read; anything else, and
    what the broker refused, a JSON-RPC error.
    """
    request_id = message.id if message.id is not None else ""
    if refusal or message.method != "tools/call":
        return error_message(request_id, INVALID_REQUEST if refusal else INTERNAL_ERROR, str(error))
    told = _interrupted(error) if isinstance(error, UpstreamInterrupted) else answers.unavailable(str(error))
    return result_message(request_id, told.result(modern=message.enveloped))


def _interrupted(error: UpstreamInterrupted) -> Answer:
    if isinstance(error, ShutOut):
        return answers.interrupted(reason=f"{error} The call may or may not have run.")
    sentence = (
        f"{error} The call may or may not have run. If it was waiting for approval, repeat the identical call: it "
        "picks its approval up. Otherwise look at the effect before you do anything else; do not simply repeat it."
    )
    return Answer(status=Status.INTERRUPTED, sentence=sentence, reason=str(error))


def _message_in(said: Any) -> str | None:
    error: Any = cast("dict[str, Any]", said).get("error") if isinstance(said, dict) else None
    words: Any = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else None
    return words if isinstance(words, str) else None
