"""What has to be equal of a script that was followed twice.

What belongs here: what is left out because HTTP or a process makes it differ, and what is compared how. What does not:
running anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from broker.gateway.upstreams.stdio.exchange import REQUEST_CANCELLED
from tests.differential.client import Client, Exchange
from tests.differential.over_http import HttpClient
from tests.servers.every.session import meta_of
from tests.servers.every.speech import Message

_OF_A_HOP = frozenset(
    {"date", "server", "connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding"}
    | {"authorization"}
)
"""Fields of one connection, not of what is said on it; and the credentials, which are for the broker."""
_BROKER = "approval-broker"
"""What the ids of its own requests begin with, and what it calls itself in them."""


def assert_same(through: Sequence[Any], alone: Sequence[Any]) -> None:
    """Fail with the place where two lists first differ."""
    for number, (found, wanted) in enumerate(zip_longest(through, alone)):
        if found != wanted:
            raise AssertionError(f"number {number} differs:\n{_excerpts(repr(found), repr(wanted))}")


def _excerpts(found: str, wanted: str) -> str:
    place = next(
        (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
    )
    start = max(0, place - 120)
    named = (("what", wanted[:60]), ("alone", wanted[start : place + 200]), ("broker", found[start : place + 200]))
    return "\n".join(f"{name:>8}: {excerpt}" for name, excerpt in named)


def answered(client: HttpClient) -> list[Any]:
    """Every answer that a client got, byte for byte."""
    return [_answer(exchange) for exchange in client.exchanges]


def _answer(exchange: Exchange) -> tuple[str, int | None, list[tuple[str, str]], bytes]:
    fields = sorted(_end_to_end(exchange.fields))
    return exchange.sent, exchange.status, fields, exchange.body


def _end_to_end(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields that go from end to end; of a session id only that it is there."""
    return [(name, "set" if name == "mcp-session-id" else value) for name, value in fields if name not in _OF_A_HOP]


def received(record: Sequence[tuple[Mapping[str, str], Message | None]]) -> list[Any]:
    """Every request that a server at a URL was sent by the client, with its fields."""
    return [
        (dict(sorted(_end_to_end(fields.items()))), normal(message))
        for fields, message in record
        if message is None or not _is_the_brokers(message)
    ]


def _is_the_brokers(message: Message) -> bool:
    client: Message = meta_of(message).get("io.modelcontextprotocol/clientInfo") or {}
    return client.get("name") == _BROKER or str(message.get("id")).startswith(_BROKER)


def normal(message: Any) -> str:
    """JSON that is equal when the values are: integers exactly, floats as floats, keys in their order."""
    return json.dumps(message)


# -- over stdio -------------------------------------------------------------------------------------------------------


def responses(client: Client) -> list[str]:
    """The response to each request, in the order of their ids."""
    heard = [json.loads(data) for data in client.heard]
    return sorted(normal(message) for message in heard if "method" not in message and not _ends_a_cancelled(message))


def _ends_a_cancelled(message: Message) -> bool:
    """Over HTTP every request has an answer: this one stands for the server's silence after a cancel."""
    return message.get("error", {}).get("code") == REQUEST_CANCELLED


def told(client: Client) -> list[str]:
    """The server's own requests and notifications, in no order: HTTP has several streams for them."""
    heard = [json.loads(data) for data in client.heard]
    return sorted(normal(message) for message in heard if "method" in message)


def in_order(exchange: Exchange, alone: Client) -> bool:
    """Whether what came on one stream came in the same order from the server alone."""
    said = iter([normal(json.loads(data)) for data in alone.heard])
    heard = [json.loads(data) for data in exchange.heard]
    return all(normal(message) in said for message in heard if not _ends_a_cancelled(message))


def renumbered(messages: Sequence[Message], *, modern: bool) -> list[str]:
    """Messages that a process was sent, with the ids, and in the modern era the progress tokens, counted."""
    ids: dict[str, str] = {}
    tokens: dict[str, str] = {}
    sent = [message for message in messages if not _is_the_brokers(message)]
    return [normal(_counted(message, ids, tokens if modern else None)) for message in sent]


def _counted(message: Message, ids: dict[str, str], tokens: dict[str, str] | None) -> Message:
    params: Message = message.get("params") or {}
    if message.get("method") == "notifications/cancelled":
        return {**message, "params": {**params, "requestId": ids[normal(params["requestId"])]}}
    if "id" not in message or "method" not in message:
        return message
    counted = {**message, "id": ids.setdefault(normal(message["id"]), f"request {len(ids) + 1}")}
    token = params.get("_meta", {}).get("progressToken")
    if tokens is not None and token is not None:
        number = tokens.setdefault(normal(token), f"token {len(tokens) + 1}")
        counted["params"] = {**params, "_meta": {**params["_meta"], "progressToken": number}}
    return counted
