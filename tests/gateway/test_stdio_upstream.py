"""A command as an upstream: real processes, one for each session or grant, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from broker.errors import SessionUnknown, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.sse import events
from broker.gateway.upstreams import UpstreamReply, UpstreamRequest
from broker.gateway.upstreams.stdio import MOST_SESSIONS, StdioUpstream
from broker.gateway.wire import loads
from tests.servers import BOUND, FEATURE_STDIO, RAW_STDIO, ROOT

MODERN: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
CLIENT: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
BOTH = ((b"accept", b"application/json, text/event-stream"),)


@contextlib.asynccontextmanager
async def upstream(*command: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[StdioUpstream]:
    made = StdioUpstream("raw", command or RAW_STDIO, env, ROOT)
    try:
        async with asyncio.timeout(BOUND):
            yield made
    finally:
        await made.close()


def post(
    method: str,
    params: Mapping[str, Any] | None = None,
    /,
    *,
    id: str | int | None = 1,  # noqa: A002 - the message's own word
    session: str | None = None,
    grant: str = "g1",
    headers: tuple[tuple[bytes, bytes], ...] = BOTH,
) -> UpstreamRequest:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params or {}}
    return UpstreamRequest(
        method="POST",
        grant_id=grant,
        modern=session is None and method != "initialize",
        message=message if id is None else {**message, "id": id},
        headers=headers,
        session=session,
    )


async def opened(server: StdioUpstream, grant: str = "g1") -> str:
    reply = await server.send(post("initialize", CLIENT, grant=grant))
    assert reply.status == 200
    assert reply.session is not None
    return reply.session


async def said(reply: UpstreamReply) -> dict[str, Any]:
    return loads(b"".join([chunk async for chunk in reply.chunks]))


async def result(server: StdioUpstream, request: UpstreamRequest) -> dict[str, Any]:
    return (await said(await server.send(request)))["result"]


def kind(reply: UpstreamReply) -> bytes:
    return dict(reply.headers)[b"content-type"]


def token(value: str | int, **params: Any) -> dict[str, Any]:
    return {**params, "_meta": {"progressToken": value, "kept": True}}


def runs(pid: int) -> bool:
    """Whether such a process runs; one that nobody has reaped runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> None:
    while runs(pid):  # noqa: ASYNC110 - a grandchild tells us nothing
        await asyncio.sleep(0.01)


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


async def test_there_is_no_stream_to_get() -> None:
    async with upstream() as server:
        reply = await server.send(UpstreamRequest("GET", "g1", modern=False, session="x"))
        assert (reply.status, dict(reply.headers)) == (405, {b"allow": b"POST, DELETE"})


# -- requests and answers ---------------------------------------------------------------------------------------------


async def test_ids_and_tokens_are_the_brokers_own_at_the_process_and_the_clients_in_the_answer() -> None:
    async with upstream() as server:
        reply = await server.send(post("x", token("mine", unknown=[2**70]), id="seven"))
        answer = await said(reply)
    request = answer["result"]["request"]
    assert (reply.status, kind(reply)) == (200, b"application/json")
    assert (answer["id"], answer["unknown"]) == ("seven", [1])
    assert isinstance(request["id"], int)
    assert request["params"]["unknown"] == [2**70]
    assert request["params"]["_meta"] == {"progressToken": request["id"], "kept": True}


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
    assert len([message for _, level, message in logged if level == "WARNING" and "not JSON-RPC" in message]) == 2


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


async def test_notifications_are_written_and_answers_of_clients_dropped() -> None:
    async with upstream() as server:
        session = await opened(server)
        note = await server.send(post("notifications/initialized", id=None, session=session))
        answer = UpstreamRequest("POST", "g1", modern=False, message={"id": 1, "result": {}}, session=session)
        assert (note.status, (await server.send(answer)).status) == (202, 202)
        seen = (await result(server, post("test/seen", session=session)))["seen"]
    assert [message["method"] for message in seen] == ["initialize", "notifications/initialized", "test/seen"]


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


async def streaming(server: StdioUpstream, session: str | None) -> UpstreamReply:
    held = asyncio.create_task(server.send(post("test/hold", token(1, name="a"), id=7, session=session)))
    await asyncio.sleep(0)
    await result(server, post("test/progress", {"name": "a", "progress": 1}, session=session))
    return await held


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


# -- ends -------------------------------------------------------------------------------------------------------------


async def test_a_command_that_is_not_there_is_unreachable() -> None:
    async with upstream("/nowhere/no-such-command") as server:
        for request in (post("x"), post("initialize", CLIENT), post("x")):
            with pytest.raises(UpstreamUnreachable, match="no-such-command"):
                await server.send(request)


async def test_a_command_that_speaks_no_mcp_is_ended_with_a_sentence() -> None:
    server = StdioUpstream("git", ["yes", "this is no message"], opens_within=0.2)
    try:
        with pytest.raises(UpstreamInterrupted, match=r"said nothing within 0\.2 s"):
            await server.send(post("initialize"))
    finally:
        await server.close()


async def test_a_process_that_dies_interrupts_what_is_under_way_and_its_session_is_over() -> None:
    async with upstream() as server:
        session = await opened(server)
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"}, session=session)))
        await asyncio.sleep(0)
        with pytest.raises(UpstreamInterrupted, match="may or may not have run"):
            await server.send(post("test/die", session=session))
        with pytest.raises(UpstreamInterrupted):
            await held
        with pytest.raises(SessionUnknown):
            await server.send(post("x", session=session))


async def test_a_process_that_closes_its_output_is_over() -> None:
    async with upstream() as server:
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/close"))


async def test_a_stream_ends_as_interrupted_when_the_process_dies() -> None:
    async with upstream() as server:
        reply = await server.send(post("test/progress-then-die", token(1)))
        with pytest.raises(UpstreamInterrupted):
            _ = [chunk async for chunk in reply.chunks]


async def test_after_a_death_the_next_modern_request_starts_a_new_process() -> None:
    async with upstream() as server:
        first = await result(server, post("x"))
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/die"))
        assert (await result(server, post("x")))["pid"] != first["pid"]


async def test_a_command_that_dies_without_an_answer_is_not_started_again_at_once() -> None:
    async with upstream(*RAW_STDIO, "exit") as server:
        with pytest.raises((UpstreamInterrupted, UpstreamUnreachable)):
            await server.send(post("x"))
        with pytest.raises(UpstreamUnreachable, match="without answering"):
            await server.send(post("x"))


async def test_closing_leaves_nothing_behind_not_even_children_of_the_process() -> None:
    async with upstream() as server:
        told = await result(server, post("test/spawn"))
        held = asyncio.create_task(server.send(post("test/hold", {"name": "a"})))
        await asyncio.sleep(0)
    with pytest.raises(UpstreamInterrupted):
        await held
    async with asyncio.timeout(BOUND):
        await gone(told["pid"])
        await gone(told["child"])
    with pytest.raises(UpstreamUnreachable):
        await server.send(post("x", grant="g2"))


async def test_a_process_that_dies_takes_its_children_along() -> None:
    async with upstream() as server:
        told = await result(server, post("test/spawn"))
        with pytest.raises(UpstreamInterrupted):
            await server.send(post("test/die"))
        await gone(told["child"])


async def test_a_process_that_will_not_go_is_killed_with_all_others_at_once() -> None:
    async with upstream(*RAW_STDIO, "stubborn") as server:
        pids = [(await result(server, post("x", grant=grant)))["pid"] for grant in ("g1", "g2", "g3")]
        async with asyncio.timeout(7):  # 4 s each
            await server.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# -- a real server, and the loop of production ------------------------------------------------------------------------


async def test_a_server_of_the_sdk_is_served_in_both_eras(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    async with upstream(*FEATURE_STDIO, env={"FEATURE_SERVER_FILE": str(effects)}) as server:
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
    async def story() -> None:
        await test_requests_with_the_same_id_and_token_each_get_their_own_progress_and_answer()
        await test_a_process_that_dies_interrupts_what_is_under_way_and_its_session_is_over()
        await test_a_process_that_closes_its_output_is_over()
        await test_closing_leaves_nothing_behind_not_even_children_of_the_process()

    uvloop.run(story())
