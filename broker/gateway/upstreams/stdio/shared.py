"""The process of one grant in the stateless era (2026-07-28), shared by its clients.

What belongs here: telling them apart. Ids, progress tokens and subscriptions are the broker's own at the process, and
the client's again in what it gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from broker.gateway.jsonrpc import METHOD_NOT_FOUND
from broker.gateway.protocol import LOG_LEVEL_META_KEY, SUBSCRIPTION_ID_META_KEY
from broker.gateway.upstreams.stdio.alarm import loop_time
from broker.gateway.upstreams.stdio.connection import Connection
from broker.gateway.upstreams.stdio.exchange import (
    CANCELLED,
    LISTEN,
    PROGRESS,
    Exchange,
    meta_of,
    number_of,
    object_of,
    params_of,
)
from broker.gateway.upstreams.stdio.readers import Said
from broker.gateway.wire import error_message, http_status

LOG_LINE = "notifications/message"


class Shared(Connection):
    """The process that serves the modern requests of one grant."""

    modern: ClassVar[bool] = True

    def _status(self, response: Mapping[str, Any]) -> int:
        return http_status(response)

    def _renumbered(self, message: Mapping[str, Any], exchange: Exchange) -> dict[str, Any]:
        renumbered = super()._renumbered(message, exchange)
        if exchange.token is not None:
            meta = {**exchange.meta, "progressToken": exchange.number}
            renumbered["params"] = {**params_of(message), "_meta": meta}
        return renumbered

    def _restored(self, response: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        restored = super()._restored(response, exchange)
        if SUBSCRIPTION_ID_META_KEY in meta_of(result := object_of(response.get("result"))):
            restored["result"] = _subscribed(result, exchange)
        return restored

    def _left(self, exchange: Exchange, unread: list[Said]) -> None:
        """Leaving is a cancel in this era (2026-07-28, Transports)."""
        if self._exchanges.pop(exchange.number, None) is not None:
            self._cancel(exchange)

    def _hear(self, said: Said) -> None:
        message, params = said.message, params_of(said.message)
        subscription = meta_of(params).get(SUBSCRIPTION_ID_META_KEY)
        if "id" in message:
            told = "Servers send no requests since 2026-07-28: answer with input_required instead."
            self._write_now(error_message(message["id"], METHOD_NOT_FOUND, told))
        elif message["method"] == PROGRESS:
            self._progress(said, params)
        elif message["method"] == CANCELLED:
            self._end_subscription(number_of(params.get("requestId")))
        elif subscription is not None:
            exchange = self._exchanges.get(number_of(subscription))
            self._give(said, exchange, _subscribed(params, exchange) if exchange is not None else params)
        else:
            self._give(said, self._concerned(message["method"]), params)

    def _progress(self, said: Said, params: dict[str, Any]) -> None:
        exchange = self._exchanges.get(number_of(params.get("progressToken")))
        if exchange is not None and exchange.token is not None:
            exchange.heard = loop_time()
            self._give(said, exchange, {**params, "progressToken": exchange.token})

    def _concerned(self, method: str) -> Exchange | None:
        """Whose stream a notification goes on that names no request: a log line only where one asked for the log."""
        for exchange in reversed(self._exchanges.values()):
            wanted = method != LOG_LINE or LOG_LEVEL_META_KEY in exchange.meta
            if exchange.hears and exchange.method != LISTEN and wanted:
                return exchange
        return None

    def _give(self, said: Said, exchange: Exchange | None, params: dict[str, Any]) -> None:
        if exchange is None or not exchange.hears:
            self._log.debug("sent %.100r, which concerns no request under way: it is dropped", said.message["method"])
            return
        exchange.owes = exchange.method != LISTEN
        message = {**said.message, "params": params} if "params" in said.message else said.message
        exchange.reader.put(Said(message, said.size))

    def _end_subscription(self, number: int) -> None:
        """On stdio a server ends a subscription with a cancellation; over HTTP the stream ends."""
        exchange = self._exchanges.get(number)
        if exchange is not None and exchange.method == LISTEN:
            del self._exchanges[number]
            exchange.reader.end()


def _subscribed(part: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
    """Params or a result with the client's own id of its subscription."""
    return {**part, "_meta": {**meta_of(part), SUBSCRIPTION_ID_META_KEY: exchange.id}}
