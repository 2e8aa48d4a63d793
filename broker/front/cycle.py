"""One request and its answer, and heads of requests that come again.

What belongs here: what is known of a request once it was read, and its answer as bytes. What does not: the connection
(`connection`).

An agent sends many requests whose heads differ in nothing but how long their bodies are. Parsing such a head, and
finding out what it says, would be most of the work for a small request: a connection keeps the few that came again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

LEFT = "broker.left"
"""Among the extensions of a request's scope: given a function, calls it when the client is gone before the answer."""

ANSWER = "broker.answer"
"""Among them: given status, fields and the whole body, sends that answer."""

KNOWN = "broker.known"
"""Among them: a dict for what is found out from the head alone. It is there again when the same head comes again."""

MOST_KEPT, LARGEST_KEPT = 8, 4096
"""Heads of a connection, and bytes of one: nobody needs a grant to have them kept."""

_LENGTH = re.compile(rb"\r\ncontent-length: (\d{1,9})(?=\r\n)", re.IGNORECASE)


class Whole(NamedTuple):
    """A request that is there from its first to its last byte.

    Args:
        head: what stands before and behind the digits that say how long the body is.
    """

    head: tuple[bytes, bytes]
    length: bytes
    body: bytes

    @staticmethod
    def of(data: bytes) -> Whole | None:
        """What looks like one. Only a parser can say whether it is: of this one, or of an earlier one with its head."""
        found = _LENGTH.search(data)
        if found is None:
            return None
        start, end = found.span(1)
        body = data.find(b"\r\n\r\n", end) + 4
        if body < 4 or len(data) - body != int(found[1]):
            return None
        return Whole((data[:start], data[end:body]), found[1], data[body:])


class Repeated(NamedTuple):
    """A head that was parsed before.

    Args:
        scope: of ASGI, without what belongs to one request.
        at: which of the `headers` says how long the body is.
        known: what was found out from it since.
    """

    scope: dict[str, Any]
    headers: Sequence[tuple[bytes, bytes]]
    at: int
    known: dict[str, Any]

    @staticmethod
    def of(cycle: RequestResponseCycle, whole: Whole) -> Repeated | None:
        """What the next request with that head is known to be; None when this one was not what it looked like."""
        headers: Sequence[tuple[bytes, bytes]] = cycle.scope["headers"]  # pyright: ignore[reportAssignmentType] - a list
        lengths = [at for at, (name, _) in enumerate(headers) if name == b"content-length"]
        framed = len(lengths) == 1 and headers[lengths[0]][1] == whole.length
        plain = cycle.keep_alive and not cycle.more_body and not cycle.waiting_for_100_continue
        if not (framed and plain and bytes(cycle.body) == whole.body):
            return None
        scope = {key: value for key, value in cycle.scope.items() if key not in ("extensions", "state")}
        return Repeated(scope, (*headers,), lengths[0], {})

    def scope_of(self, whole: Whole, state: dict[str, Any]) -> dict[str, Any]:
        """The scope of a request with this head."""
        headers = [*self.headers]
        headers[self.at] = (b"content-length", whole.length)
        return self.scope | {"headers": headers, "state": state.copy()}


class Cycle(RequestResponseCycle):
    """A request and its answer: uvicorn's, which can also be answered at once."""

    async def run_asgi(self, app: Any) -> None:
        """Have the application answer; nothing of this refers back to it then, so it is gone as soon as that ends."""
        try:
            await super().run_asgi(app)
        finally:
            self.scope.pop("extensions", None)

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send the whole answer, whose `headers` say how long `body` is.

        Raises:
            RuntimeError: the answer began already, or HTTP does not allow its fields.
        """
        if self.disconnected:
            return
        if self.response_started or self.scope["method"] == "HEAD":
            raise RuntimeError("This answer cannot be sent whole.")
        if HEADER_RE.search(b"".join([name for name, _ in headers])):
            raise RuntimeError("Invalid HTTP header name.")
        if HEADER_VALUE_RE.search(b"".join([value for _, value in headers])):
            raise RuntimeError("Invalid HTTP header value.")
        lines = [name + b": " + value + b"\r\n" for name, value in (*self.default_headers, *headers)]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
