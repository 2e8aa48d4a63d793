"""A command as an upstream: real processes, one for each session or grant, and their answers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from broker.errors import SessionUnknown
from broker.gateway.sse import events
from broker.gateway.upstreams import UpstreamRequest
from broker.gateway.upstreams.stdio.upstream import MOST_SESSIONS
from broker.gateway.wire import loads
from tests.gateway.stdio import (
    CLIENT,
    MODERN,
    Listening,
    get,
    gone,
    kind,
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
from tests.servers import BOUND, RAW_STDIO, ROOT, features_stdio

# -- sessions and grants ----------------------------------------------------------------------------------------------


async def test_each_legacy_session_has_a_process_of_its_own() -> None:
    async with upstream() as server:
        first, second = await opened(server), await opened(server)
        pids = [(await result(server, post("x", session=session)))["pid"] for session in (first, second, first)]
    assert first != second
    assert pids[0] == pids[2] != pids[1]


async def test_modern_requests_of_a_grant_share_a_process_and_grants_never_do() -> None:
    async with upstream() as server:
        mine = await asyncio.gather(*(result(server, post("x", id=n)) for n in range(5)))
        others = await result(server, post("x", grant="g2"))
    assert len({answer["pid"] for answer in mine}) == 1
    assert others["pid"] != mine[0]["pid"]


async def test_a_session_is_unknown_to_another_grant_and_after_its_end() -> None:
    async with upstream() as server:
        session = await opened(server)
        pid = (await result(server, post("x", session=session)))["pid"]
        for wrong in (post("x", session="nothing"), post("x", session=session, grant="g2")):
            with pytest.raises(SessionUnknown):
                await server.send(wrong)
        ended = await server.send(UpstreamRequest("DELETE", "g1", modern=False, session=session))
        assert ended.status == 200
        await gone(pid)
        with pytest.raises(SessionUnknown):
            await server.send(post("x", session=session))


async def test_sessions_that_were_left_open_make_room_for_new_ones() -> None:
    async with upstream(*RAW_STDIO) as server:
        first, second = await opened(server), await opened(server)
        assert await result(server, post("pid", session=first))
        for _ in range(MOST_SESSIONS - 1):
            await opened(server)
        with pytest.raises(SessionUnknown):
            await server.send(post("pid", session=second))  # the one that was unused longest
        assert await result(server, post("pid", session=first))
        assert await opened(server, "g2")  # another grant has its own


async def test_a_refused_initialize_leaves_no_session_and_no_process() -> None:
    async with upstream(*RAW_STDIO, "refuse") as server:
        reply = await server.send(post("initialize", CLIENT))
        assert reply.session is None
        assert (await said(reply))["error"]["code"] == -32602


async def test_a_legacy_request_without_a_session_is_a_bad_request() -> None:
    async with upstream() as server:
        reply = await server.send(UpstreamRequest("POST", "g1", modern=False, message={"id": 4, "method": "x"}))
        assert (reply.status, (await said(reply))["id"]) == (400, 4)


async def test_a_get_needs_a_session_that_is_the_grants_own_and_the_modern_era_has_none() -> None:
    async with upstream() as server:
        session = await opened(server)
        assert (await server.send(get(None))).status == 400
        for wrong in (get("nothing"), get(session, grant="g2")):
            with pytest.raises(SessionUnknown):
                await server.send(wrong)
        modern = await server.send(UpstreamRequest("GET", "g1", modern=True))
        assert (modern.status, dict(modern.headers)) == (405, {b"allow": b"POST"})


async def test_a_process_that_refuses_discovery_is_not_kept_for_modern_requests() -> None:
    async with upstream(*RAW_STDIO, "refuse") as server:
        pid = (await result(server, post("x")))["pid"]
        reply = await server.send(post("server/discover", id="d"))
        answer = await said(reply)
        assert (answer["id"], answer["error"]["code"]) == ("d", -32602)
        await gone(pid)
        assert server.tenants == frozenset()


async def test_a_process_that_refuses_discovery_is_kept_while_it_works() -> None:
    async with upstream(*RAW_STDIO, "refuse") as server:
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"})))
        await asyncio.sleep(0)
        assert "error" in await said(await server.send(post("server/discover")))
        await result(server, post("test/let-go", {"name": "a"}))
        assert (await said(await held))["result"] == {"held": "a"}


# -- requests and answers ---------------------------------------------------------------------------------------------


async def test_modern_ids_and_tokens_are_the_brokers_own_at_the_process_and_the_clients_in_the_answer() -> None:
    async with upstream() as server:
        reply = await server.send(post("x", token("mine", unknown=[2**70]), id="seven"))
        answer = await said(reply)
    request = answer["result"]["request"]
    assert (reply.status, kind(reply)) == (200, b"application/json")
    assert (answer["id"], answer["unknown"]) == ("seven", [1])
    assert isinstance(request["id"], int)
    assert request["params"]["unknown"] == [2**70]
    assert request["params"]["_meta"] == {"progressToken": request["id"], "kept": True}


async def test_a_legacy_token_is_the_clients_own_at_the_process_and_its_progress_comes_on_its_requests_stream() -> None:
    async with upstream() as server:
        session = await opened(server)
        held: dict[Any, Any] = {}
        for wanted, name in ((0, "a"), ("0", "b")):
            request = post("test/hold", token(wanted, name=name), id=name, session=session)
            held[wanted] = asyncio.create_task(server.send(request))
            await asyncio.sleep(0)
        for name in "ab":
            await result(server, post("test/progress", {"name": name, "progress": 1}, session=session))
        told = {wanted: await Listening(await reply).next() for wanted, reply in held.items()}
    assert {wanted: message["params"]["progressToken"] for wanted, message in told.items()} == {0: 0, "0": "0"}


async def test_requests_with_the_same_id_and_token_each_get_their_own_progress_and_answer() -> None:
    async with upstream() as server:
        slow = {name: asyncio.create_task(server.send(post("test/hold", token("t", name=name), id=1))) for name in "ab"}
        await asyncio.sleep(0)
        for step, name in enumerate("ab"):
            await result(server, post("test/progress", {"name": name, "progress": step + 1}))
        replies = {name: await task for name, task in slow.items()}
        for name in "ba":
            await result(server, post("test/let-go", {"name": name}))
        told = {name: [loads(e.data or b"") async for e in events(r.chunks)] for name, r in replies.items()}
    for step, name in enumerate("ab"):
        progress, answer = told[name]
        assert kind(replies[name]) == b"text/event-stream"
        assert progress["params"] == {"progressToken": "t", "progress": step + 1, "unknown": "kept"}
        assert (answer["id"], answer["result"]) == (1, {"held": name})


async def test_a_client_that_takes_no_stream_gets_json_only() -> None:
    async with upstream() as server:
        held = asyncio.create_task(server.send(post("test/hold", token(5, name="a"), headers=())))
        await asyncio.sleep(0)
        await result(server, post("test/progress", {"name": "a", "progress": 1}))
        await result(server, post("test/let-go", {"name": "a"}))
        reply = await held
        assert kind(reply) == b"application/json"
        assert (await said(reply))["result"] == {"held": "a"}


async def test_errors_have_an_http_status_in_the_modern_era_only() -> None:
    async with upstream() as server:
        session = await opened(server)
        modern = await server.send(post("test/fail", {"code": -32601}))
        legacy = await server.send(post("test/fail", {"code": -32601}, session=session))
        assert (modern.status, legacy.status) == (404, 200)
        assert (await said(legacy))["error"]["code"] == -32601


async def test_a_message_of_20_megabytes_passes_both_ways() -> None:
    async with upstream() as server:
        size = 20_000_000
        text = (await result(server, post("test/large", {"size": size})))["text"]
        assert len((await result(server, post("x", {"text": text})))["request"]["params"]["text"]) == size


async def test_nonsense_is_ignored_and_the_log_has_what_a_process_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "broker.upstream.raw")
    async with upstream() as server:
        assert await result(server, post("test/nonsense")) == {}
    logged = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert ("broker.upstream.raw", "INFO", "to the log \\x1b[31m") in logged
    (warned,) = [message for _, level, message in logged if level == "WARNING"]
    assert warned.endswith("no JSON-RPC, which is ignored: Starting up...")


async def test_a_request_of_the_server_is_refused_at_once() -> None:
    async with upstream() as server:
        refusal = await result(server, post("test/ask"))
    assert (refusal["id"], refusal["error"]["code"]) == ("mine", -32601)


async def test_a_process_gets_the_configured_environment_and_little_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_SECRET_OF_A_TEST", "hidden")
    async with upstream(env={"GIVEN": "yes"}) as server:
        told = await result(server, post("test/environment"))
    assert told["environment"]["GIVEN"] == "yes"
    assert "BROKER_SECRET_OF_A_TEST" not in told["environment"]
    assert told["cwd"] == str(ROOT)


# -- notifications and cancelling -------------------------------------------------------------------------------------


async def test_notifications_and_answers_of_a_legacy_client_are_written_as_they_are() -> None:
    async with upstream() as server:
        session = await opened(server)
        note = await server.send(post("notifications/initialized", id=None, session=session))
        answer = response(session, "s1", result={"odd": [2**70]}, beside=1)
        assert (note.status, (await server.send(answer)).status) == (202, 202)
        written = await seen(server, session)
    assert [message.get("method") for message in written] == [
        "initialize",
        "notifications/initialized",
        None,
        "test/seen",
    ]
    assert written[2] == answer.message


async def test_an_answer_of_a_modern_client_goes_nowhere_for_its_server_asks_nothing() -> None:
    async with upstream() as server:
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "result": {}}
        assert (await server.send(UpstreamRequest("POST", "g1", modern=True, message=message))).status == 202
        assert [message["method"] for message in await seen(server)] == ["test/seen"]


async def test_a_legacy_cancellation_names_the_request_as_the_process_knows_it() -> None:
    async with upstream() as server:
        session = await opened(server)
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"}, id="c", session=session)))
        await asyncio.sleep(0)
        for wanted in ("c", "never", 99):
            params = {"requestId": wanted, "reason": "tired"}
            await server.send(post("notifications/cancelled", params, id=None, session=session))
        seen = (await result(server, post("test/seen", session=session)))["seen"]
        await result(server, post("test/let-go", {"name": "a"}, session=session))
        await held
    number = next(message["id"] for message in seen if message["method"] == "test/hold")
    cancelled = [message["params"] for message in seen if message["method"] == "notifications/cancelled"]
    assert cancelled == [{"requestId": number, "reason": "tired"}]


async def test_a_cancelled_request_is_over_though_its_process_never_answers_it() -> None:
    """A server owes no answer to what was cancelled (2025-11-25, Cancellation)."""
    async with upstream() as server:
        session = await opened(server)
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"}, id=7, session=session)))
        while not any(message["method"] == "test/hold" for message in await seen(server, session)):
            pass
        await server.send(post("notifications/cancelled", {"requestId": 7}, id=None, session=session))
        answer = await said(await asyncio.wait_for(held, BOUND))
    assert (answer["id"], answer["error"]["code"]) == (7, -32800)


async def test_when_the_broker_cancels_for_itself_it_hears_what_the_process_answers_nonetheless() -> None:
    async with upstream() as server:
        session = await opened(server)
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"}, id=7, session=session)))
        await asyncio.sleep(0)
        cancel = post("notifications/cancelled", {"requestId": 7}, id=None, session=session)
        await server.send(replace(cancel, own=True))
        assert "notifications/cancelled" in [message["method"] for message in await seen(server, session)]
        assert not held.done()
        await result(server, post("test/let-go", {"name": "a"}, session=session))
        assert (await said(await held))["result"] == {"held": "a"}


async def test_a_modern_answer_closed_early_is_a_cancel() -> None:
    async with upstream() as server:
        reply = await streaming(server, None)
        await reply.close()
        seen = (await result(server, post("test/seen")))["seen"]
        await result(server, post("test/let-go", {"name": "a"}))  # its late answer goes nowhere
    number = next(message["id"] for message in seen if message["method"] == "test/hold")
    assert [m["params"] for m in seen if m["method"] == "notifications/cancelled"] == [{"requestId": number}]


async def test_a_modern_request_given_up_before_any_answer_is_a_cancel() -> None:
    async with upstream() as server:
        await result(server, post("x"))
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"})))
        await asyncio.sleep(0)
        await result(server, post("x"))
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        seen = (await result(server, post("test/seen")))["seen"]
    assert [message["method"] for message in seen][-2:] == ["notifications/cancelled", "test/seen"]


async def test_a_legacy_answer_closed_early_is_no_cancel_but_can_still_be_cancelled() -> None:
    async with upstream() as server:
        session = await opened(server)
        reply = await streaming(server, session)
        await reply.close()
        seen = (await result(server, post("test/seen", session=session)))["seen"]
        assert "notifications/cancelled" not in [message["method"] for message in seen]
        await server.send(post("notifications/cancelled", {"requestId": 7}, id=None, session=session))
        seen = (await result(server, post("test/seen", session=session)))["seen"]
        assert "notifications/cancelled" in [message["method"] for message in seen]
        await result(server, post("test/let-go", {"name": "a"}, session=session))  # its late answer goes nowhere


# -- a real server, and the loop of production ------------------------------------------------------------------------


async def test_a_server_of_the_sdk_is_served_in_both_eras(tmp_path: Path) -> None:
    features = features_stdio(tmp_path / "effects")
    async with upstream(*features["command"], env=features["env"]) as server:
        session = await opened(server)
        await server.send(post("notifications/initialized", id=None, session=session))
        call = {"name": "echo", "arguments": {"text": "hi"}}
        legacy = await result(server, post("tools/call", call, session=session))
        modern = await result(server, post("tools/call", {**call, "_meta": MODERN}))
        assert legacy["content"][0]["text"] == modern["content"][0]["text"] == "hi"
        slow: dict[str, Any] = {"name": "slow", "arguments": {"name": "s"}, "_meta": {**MODERN, "progressToken": "t"}}
        reply = await server.send(post("tools/call", slow))
        release = {"name": "release", "arguments": {"name": "s"}, "_meta": MODERN}
        await result(server, post("tools/call", release))
        told = [loads(event.data or b"") async for event in events(reply.chunks)]
        assert [message["params"]["progress"] for message in told[:-1]] == [1, 2, 3]
        assert told[-1]["result"]["content"][0]["text"] == "s done"


def test_it_works_on_the_loop_that_the_server_runs_on() -> None:
    uvloop.run(test_requests_with_the_same_id_and_token_each_get_their_own_progress_and_answer())
