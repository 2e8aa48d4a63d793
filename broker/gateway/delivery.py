"""An upstream's answer on its way to the caller: a small one whole, any other as it comes, and each with an end.

What belongs here: passing bytes on as they are, learning from them how the request ended, and telling the caller when
the upstream breaks off or answers with something else. What does not: changing answers (`replies`), the words for a
broken one (the gate's).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from broker.errors import GrantEnded, UpstreamInterrupted
from broker.gateway.outcome import Outcome, outcome_in
from broker.gateway.replies import is_stream, json_reply, once
from broker.gateway.sse import SseParser, portions, rest_after, sse_event
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import RequestId

LOOKED_INTO = 64 * 1024
"""Bytes of a text or an event that is read to see how the request ended; a longer one passes unseen."""

CUT = b"\r\nevent: cut\r\n\r\n"
"""Ends an event that broke off in the middle under a name that no client listens to, so that another can follow."""

NO_ANSWER = "The MCP server's answer is not the response to the request: the request may or may not have run."


def _nobody(outcome: Outcome) -> None:
    pass


@dataclass(slots=True)
class Delivery:
    """One answer, with its request.

    Args:
        resumable: whether the client may ask for the rest of a stream that broke off (before 2026-07-28).
        broken: the response for an answer that never came whole, given why.
        ended: called once with how the request ended.
    """

    request_id: RequestId
    resumable: bool
    broken: Callable[[str], Mapping[str, object]]
    ended: Callable[[Outcome], None] = _nobody
    _told: bool = field(default=False, init=False)

    async def of(self, reply: UpstreamReply) -> UpstreamReply:
        """`reply` for the caller. A small answer that is no stream is read whole before this returns."""
        if is_stream(reply):
            return self._closing(replace(reply, chunks=self._events(reply.chunks)))
        try:
            return await self._text(reply)
        except BaseException:
            await reply.close()
            self._tell(Outcome("cancelled"))
            raise

    def _closing(self, reply: UpstreamReply) -> UpstreamReply:
        async def close() -> None:
            await reply.close()
            self._tell(Outcome("cancelled"))  # it is told already, unless it was closed before its end

        return replace(reply, close=close)

    def _tell(self, outcome: Outcome) -> None:
        if not self._told:
            self._told = True
            self.ended(outcome)

    # -- one JSON text ------------------------------------------------------------------------------------------------

    async def _text(self, reply: UpstreamReply) -> UpstreamReply:
        pieces: list[bytes] = []
        size = 0
        try:
            async for chunk in reply.chunks:
                pieces.append(chunk)
                size += len(chunk)
                if size > LOOKED_INTO:
                    return self._closing(replace(reply, chunks=self._rest(pieces, reply.chunks)))
            body = b"".join(pieces)
            outcome = self._outcome(body, reply.status)
        except UpstreamInterrupted as error:
            await reply.close()
            self._tell(Outcome("interrupted", why=str(error)))
            return json_reply(self.broken(str(error)))
        self._tell(outcome)
        reply.headers.append((b"content-length", b"%d" % len(body)))
        reply.chunks, reply.body = once(body), body
        return reply

    def _outcome(self, body: bytes, status: int) -> Outcome:
        try:
            outcome = outcome_in(body, self.request_id)
        except (ValueError, RecursionError):
            outcome = None
        if outcome is None and status < 400:
            raise UpstreamInterrupted(NO_ANSWER)
        return outcome or Outcome("failed")  # HTTP's own refusal

    async def _rest(self, pieces: Sequence[bytes], chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """A long text; when it breaks off its connection is closed, so that nobody takes it for whole."""
        try:
            for piece in pieces:
                yield piece
            async for chunk in chunks:
                yield chunk
        except UpstreamInterrupted as error:
            self._tell(Outcome("interrupted", why=str(error)))
            raise
        self._tell(Outcome("answered"))

    # -- a stream of events -------------------------------------------------------------------------------------------

    async def _events(self, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        watch = _Watch(self.request_id)
        why, resumable = NO_ANSWER, self.resumable
        try:
            async for chunk in chunks:
                for portion in portions(chunk):
                    began = perf_counter()
                    watch.look_at(portion)
                    if portion is not chunk:
                        await rest_after(perf_counter() - began)
                if watch.outcome is not None:  # now: many clients leave when they have read their answer
                    self._tell(watch.outcome)
                yield chunk
            outcome = watch.at_end
        except UpstreamInterrupted as error:
            outcome, why = watch.outcome, str(error)
            resumable = resumable and not isinstance(error, GrantEnded)
        self._tell(outcome or Outcome("interrupted", why=why))
        if outcome is None and not (resumable and watch.has_ids):
            yield CUT + sse_event(self.broken(why))


class _Watch:
    """What goes by in a stream, until an event is too long to be looked into."""

    def __init__(self, request_id: RequestId) -> None:
        self._request_id = request_id
        self._parser: SseParser | None = SseParser(LOOKED_INTO)
        self.outcome: Outcome | None = None
        self.has_ids = False

    def look_at(self, chunk: bytes) -> None:
        """Take note of what `chunk` completes.

        Raises:
            UpstreamInterrupted: a message in it is no JSON: it must not be passed on.
        """
        if self._parser is None:
            return
        try:
            found = self._parser.feed(chunk)
        except UpstreamInterrupted:
            self._parser = None
            return
        outcome, has_ids = self.outcome, self.has_ids
        for event in found:
            has_ids = has_ids or bool(event.id)
            if event.data and event.name == b"message":
                read = self._read(event.data)
                outcome = outcome or read  # a client takes the first
        self.outcome, self.has_ids = outcome, has_ids  # at the end: of a chunk that is refused nothing is passed on

    def _read(self, data: bytes) -> Outcome | None:
        try:
            return outcome_in(data, self._request_id)
        except (ValueError, RecursionError):
            raise UpstreamInterrupted(NO_ANSWER) from None

    @property
    def at_end(self) -> Outcome | None:
        """The outcome of a stream that ended as it should: unknown when it is in what was not looked into."""
        return self.outcome or (Outcome("answered") if self._parser is None else None)
