"""What a server behind a command says of its own accord reaches the client that it is for."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from broker.errors import UpstreamInterrupted
from broker.gateway.sse import KEEP_ALIVE
from broker.gateway.upstreams.stdio import StdioUpstream
from broker.gateway.upstreams.stdio.backlog import MOST
from broker.gateway.upstreams.stdio.session import MOST_ASKED
from tests.gateway.stdio import (
    Listening,
    get,
    kind,
    note,
    opened,
    post,
    response,
    result,
    said,
    seen,
    streaming,
    token,
    upstream,
)

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL = "io.modelcontextprotocol/logLevel"


def ask(request_id: Any, **params: Any) -> dict[str, Any]:
    """A request of the server."""
    return {"id": request_id, "method": "roots/list", "params": params}


def quietly(session: str, *, before: Any = None, after: Any = None) -> Any:
    """A request that takes no stream, which makes the process say things."""
    params: dict[str, Any] = {"before": before} if before is not None else {"after": after}
    return post("test/say", params, session=session, headers=())


def methods(messages: list[dict[str, Any]]) -> list[Any]:
    """What the messages are about; of an answer its id."""
    return [message.get("method", message.get("id")) for message in messages]


async def whole(stream: Listening, count: int) -> list[dict[str, Any]]:
    """So many messages of a stream."""
    return [await stream.next() for _ in range(count)]


# -- legacy -----------------------------------------------------------------------------------------------------------


async def test_what_is_said_before_an_answer_comes_before_it_in_order_and_untouched() -> None:
    said_before = [
        {**note("notifications/message", data="1"), "beside": {"kept": [2**70]}},
        note("notifications/tools/list_changed"),
        note("notifications/unheard"),
        ask("s1"),
    ]
    async with upstream() as server:
        session = await opened(server)
        reply = await server.send(post("test/say", {"before": said_before}, id=9, session=session))
        stream = Listening(reply)
        assert await whole(stream, 4) == [{"jsonrpc": "2.0", **message} for message in said_before]
        assert methods([await stream.next()]) == [9]
        assert await stream.ended()
    assert kind(reply) == b"text/event-stream"


async def test_a_request_of_the_server_is_answered_by_its_client_while_the_call_waits() -> None:
    async with upstream() as server:
        session = await opened(server)
        stream = Listening(await server.send(post("test/ask", session=session)))
        assert methods(await whole(stream, 2)) == ["notifications/message", "sampling/createMessage"]
        assert (await server.send(response(session, "mine", result={"role": "user"}))).status == 202
        answered = (await stream.next())["result"]
    assert answered == {"jsonrpc": "2.0", "id": "mine", "result": {"role": "user"}}


async def test_what_is_said_while_nothing_is_under_way_comes_on_the_stream_that_get_opened() -> None:
    async with upstream() as server:
        session = await opened(server)
        reply = await server.send(get(session))
        assert (reply.status, kind(reply)) == (200, b"text/event-stream")
        assert await anext(reply.chunks) == KEEP_ALIVE  # at once, so that the client has the headers
        stream = Listening(reply)
        await result(server, quietly(session, after=[ask(1), note("notifications/resources/updated", uri="a://b")]))
        assert methods(await whole(stream, 2)) == ["roots/list", "notifications/resources/updated"]
        await server.send(response(session, 1, result={"roots": []}))
        assert (await seen(server, session))[-2] == {"jsonrpc": "2.0", "id": 1, "result": {"roots": []}}


async def test_what_is_said_before_a_client_listens_waits_for_its_get() -> None:
    async with upstream() as server:
        session = await opened(server)
        await result(server, quietly(session, before=[note("n/1"), ask(1), note("n/2")]))
        stream = Listening(await server.send(get(session)))
        assert methods(await whole(stream, 3)) == ["n/1", "roots/list", "n/2"]


async def test_or_it_waits_for_the_next_request_that_takes_a_stream() -> None:
    async with upstream() as server:
        session = await opened(server)
        await result(server, quietly(session, before=[note("n/1"), ask(1)]))
        assert await result(server, post("x", session=session, headers=()))  # takes none
        stream = Listening(await server.send(post("x", id=5, session=session)))
        assert methods(await whole(stream, 3)) == ["n/1", "roots/list", 5]


async def test_a_question_of_the_brokers_own_takes_nothing_of_it_away() -> None:
    async with upstream() as server:
        session = await opened(server)
        await result(server, quietly(session, before=[note("n/1")]))
        own = replace(post("tools/list", session=session), own=True)
        assert kind(await server.send(own)) == b"application/json"
        assert methods([await Listening(await server.send(get(session))).next()]) == ["n/1"]


async def test_a_newer_get_takes_over_with_what_the_older_one_did_not_read() -> None:
    async with upstream() as server:
        session = await opened(server)
        older = await server.send(get(session))
        await result(server, quietly(session, before=[note("n/1"), note("n/2")]))
        assert await anext(older.chunks) == KEEP_ALIVE
        newer = Listening(await server.send(get(session)))
        assert await Listening(older).ended()
        await result(server, quietly(session, before=[note("n/3")]))
        assert methods(await whole(newer, 3)) == ["n/1", "n/2", "n/3"]
        await older.close()  # of the one that is over already
        await result(server, quietly(session, before=[note("n/4")]))
        assert methods([await newer.next()]) == ["n/4"]


async def test_what_a_client_that_leaves_has_not_read_is_not_lost() -> None:
    async with upstream() as server:
        session = await opened(server)
        reply = await streaming(server, session)
        more = {"before": [ask(1), note("n/1")]}
        await result(server, post("test/say", more, session=session, headers=()))
        await reply.close()
        await result(server, quietly(session, before=[note("n/2")]))
        listening = await server.send(get(session))
        await listening.close()
        stream = Listening(await server.send(get(session)))
        assert methods(await whole(stream, 3)) == ["roots/list", "n/1", "n/2"]


async def test_progress_after_the_answer_that_made_a_task_still_arrives_with_the_clients_token() -> None:
    later = note("notifications/progress", progressToken="t", progress=7)
    async with upstream() as server:
        session = await opened(server)
        stream = Listening(await server.send(get(session)))
        assert await result(server, post("x", token("t"), session=session))
        await result(server, quietly(session, after=[later]))
        assert await stream.next() == {"jsonrpc": "2.0", **later}


async def test_when_too_much_waits_the_oldest_notifications_go_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with upstream() as server:
        session = await opened(server)
        many = [ask("kept"), *(note(f"n/{number}") for number in range(MOST + 5))]
        await result(server, quietly(session, before=many))
        stream = Listening(await server.send(get(session)))
        kept = methods(await whole(stream, MOST))
    assert kept == ["roots/list", *(f"n/{number}" for number in range(6, MOST + 5))]
    assert len([record for record in caplog.records if "no client listens" in record.getMessage()]) == 1


async def test_a_request_of_the_server_that_cannot_be_kept_is_answered_with_an_error() -> None:
    async with upstream() as server:
        session = await opened(server)
        await result(server, quietly(session, before=[ask(number) for number in range(MOST + 1)]))
        large = ask("large", filler="x" * 1_000_000)
        await result(server, quietly(session, before=[large]))
        refused = [message for message in await seen(server, session) if "error" in message]
    assert [message["id"] for message in refused] == [MOST, "large"]
    assert {message["error"]["code"] for message in refused} == {-32603}


async def test_a_server_that_asks_without_end_is_refused_until_its_client_answers() -> None:
    async with upstream() as server:
        session = await opened(server)
        asking = [ask(number) for number in range(MOST_ASKED + 1)]
        stream = Listening(await server.send(get(session)))
        await result(server, quietly(session, before=asking))
        assert [message["id"] for message in await whole(stream, MOST_ASKED)] == list(range(MOST_ASKED))
        assert [message["id"] for message in await seen(server, session) if "error" in message] == [MOST_ASKED]
        await server.send(response(session, 7, result={}))
        await result(server, quietly(session, before=[ask("next")]))
        assert (await stream.next())["id"] == "next"


async def test_the_stream_that_get_opened_ends_with_the_process() -> None:
    async with upstream() as server:
        session = await opened(server)
        stream = Listening(await server.send(get(session)))
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/die", session=session))
        assert await stream.ended()


# -- modern -----------------------------------------------------------------------------------------------------------


async def listening(server: StdioUpstream, request_id: Any) -> tuple[Listening, int]:
    """A subscription and its number at the process."""
    stream = Listening(await server.send(post("subscriptions/listen", {"_meta": {}}, id=request_id)))
    number = [message["id"] for message in await seen(server) if message["method"] == "subscriptions/listen"][-1]
    return stream, number


async def test_a_subscription_carries_its_clients_id_on_all_that_comes_on_it() -> None:
    async with upstream() as server:
        mine, number = await listening(server, "l")
        other, _ = await listening(server, "l")
        changed = note("notifications/tools/list_changed", _meta={SUBSCRIPTION: number, "kept": True}, odd=1)
        assert await result(server, post("test/say", {"before": [changed]})) == {}
        await result(server, post("test/end-listening"))
        told, others = await whole(mine, 2), await whole(other, 2)
        assert await other.ended()
    assert methods(told) == ["notifications/subscriptions/acknowledged", "notifications/tools/list_changed"]
    assert told[1]["params"] == {"_meta": {SUBSCRIPTION: "l", "kept": True}, "odd": 1}
    assert methods(others) == ["notifications/subscriptions/acknowledged", "l"]
    assert others[1]["result"] == {"_meta": {SUBSCRIPTION: "l", "kept": True}}
    assert others[0]["params"]["_meta"] == {SUBSCRIPTION: "l", "kept": True}


async def test_a_subscription_that_its_client_closes_is_cancelled_at_the_process() -> None:
    async with upstream() as server:
        stream, number = await listening(server, 1)
        await stream.reply.close()
        cancelled = [message["params"] for message in await seen(server) if "cancelled" in message["method"]]
    assert cancelled == [{"requestId": number}]


async def test_a_subscription_that_the_server_cancels_ends_and_nothing_else_can_be_cancelled_so() -> None:
    async with upstream() as server:
        stream, number = await listening(server, 1)
        held = await streaming(server, None)
        over = [note("notifications/cancelled", requestId=wanted) for wanted in (number, number + 2, "x")]
        await result(server, post("test/say", {"before": over}))
        assert methods([await stream.next()]) == ["notifications/subscriptions/acknowledged"]
        assert await stream.ended()
        await result(server, post("test/let-go", {"name": "a"}))
        assert methods(await whole(Listening(held), 2)) == ["notifications/progress", 7]


async def test_a_log_line_goes_to_the_newest_request_that_asked_for_the_log_and_to_no_other() -> None:
    lines = [note("notifications/message", data="line")]
    async with upstream() as server:
        _, _ = await listening(server, 1)
        wants = {"name": "a", "_meta": {"progressToken": 1, LOG_LEVEL: "debug"}}
        held = asyncio.create_task(server.send(post("test/hold", wants, id=7)))
        await asyncio.sleep(0)
        reply = await server.send(post("test/say", {"before": lines}))
        assert kind(reply) == b"application/json"
        assert methods([await Listening(await held).next()]) == ["notifications/message"]


async def test_other_words_go_to_the_newest_request_under_way_and_never_on_a_subscription() -> None:
    async with upstream() as server:
        stream, number = await listening(server, 1)
        reply = await server.send(post("test/say", {"before": [note("n/1")]}, id=3))
        assert methods(await whole(Listening(reply), 2)) == ["n/1", 3]
        await result(server, post("test/say", {"after": [note("n/2")]}, headers=()))
        marked = note("n/3", _meta={SUBSCRIPTION: number})
        await result(server, post("test/say", {"before": [marked]}, headers=()))
        assert methods(await whole(stream, 2)) == ["notifications/subscriptions/acknowledged", "n/3"]


async def test_progress_of_what_is_over_and_words_of_no_subscription_go_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "broker.upstream.raw")
    late = [note("notifications/progress", progressToken=1, progress=1), note("n", _meta={SUBSCRIPTION: 1})]
    async with upstream() as server:
        assert await result(server, post("x", token("t")))
        reply = await server.send(post("test/say", {"before": late}))
        assert kind(reply) == b"application/json"
        assert (await said(reply))["result"] == {}
    assert len([record for record in caplog.records if "concerns no request" in record.getMessage()]) == 1
