"""What passes through the bridge, in which order, and when it ends: bare lines against a real broker."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from tests.bridge.ends import INITIALIZE, INITIALIZED, Bridge, bridge, command, environment
from tests.gateway.scene import Agent, Scene, modern, tool_call
from tests.gateway.streams import progress, sse
from tests.servers import BOUND
from tests.servers.scripted import Message, Scripted, said, tool

CALL: Message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "look", "arguments": {}}}
PATIENCE_OF_CLIENTS = 2.0
"""Seconds after which clients of the SDK terminate a server that has not ended by itself."""


@pytest.fixture
async def agent(small: Scene) -> Agent:
    return await small.agent()


@pytest.fixture
async def own(agent: Agent) -> AsyncGenerator[Bridge]:
    """A bridge to `one`."""
    async with bridge(agent.url, agent.token, "one") as made:
        yield made


def cancelled(request_id: Any) -> Message:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}}


# -- what passes ------------------------------------------------------------------------------------------------------


async def test_messages_pass_byte_for_byte_with_fields_and_methods_that_nobody_knows(
    own: Bridge, server: Scripted
) -> None:
    note = (
        '{"jsonrpc":"2.0", "method":"x/odd","params":{"z":1.0,"a":"\\u00fc","big":36893488147419103232}, "beside":[]}'
    )
    answer = '{"id":"ü","jsonrpc":"2.0",  "result":{"odd":1e-7,"resultType":"strange"},"beside":{"kept":null}}'

    async def strange(message: Message) -> Response:
        return Response(f"data: {note}\n\ndata: {answer}\n\n".encode(), media_type="text/event-stream")

    server.on["x/unheard"] = strange
    await own.open()
    sent = {"jsonrpc": "2.0", "id": "ü", "method": "x/unheard", "params": {"a": [1, None, 2**70]}, "beside": {"k": 1}}
    own.say(sent)
    assert [(await own.line()).decode(), (await own.line()).decode()] == [note, answer]
    assert server.seen[-1] == sent


async def test_a_message_of_several_lines_becomes_one_line(own: Bridge, server: Scripted) -> None:
    async def spread(message: Message) -> Response:
        body = {"jsonrpc": "2.0", "id": message["id"], "result": {"text": "a\nb"}}
        return Response(json.dumps(body, indent=1), media_type="application/json")

    server.on["x/spread"] = spread
    await own.open()
    assert (await own.ask({"jsonrpc": "2.0", "id": 7, "method": "x/spread"}))["result"] == {"text": "a\nb"}


async def test_a_request_of_the_server_reaches_the_client_and_its_answer_goes_back(
    own: Bridge, server: Scripted
) -> None:
    answered = asyncio.Queue[Message]()
    asks: Message = {"jsonrpc": "2.0", "id": "mine", "method": "sampling/createMessage", "params": {"odd": 1}}

    async def ask_first(message: Message) -> Response:
        async def stream() -> AsyncGenerator[bytes]:
            yield sse(asks)
            answer = await answered.get()
            yield sse({"jsonrpc": "2.0", "id": message["id"], "result": {"content": [], "heard": answer["result"]}})

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def take_answer(message: Message) -> Response:
        answered.put_nowait(message)
        return Response(status_code=202)

    server.on = {"tools/call": ask_first, "": take_answer}
    await own.open()
    assert await own.ask(CALL) == asks
    final = await own.ask({"jsonrpc": "2.0", "id": "mine", "result": {"role": "assistant", "odd": [None]}})
    assert final["result"]["heard"] == {"role": "assistant", "odd": [None]}


async def test_what_a_server_says_of_its_own_accord_passes_and_goes_on_where_it_broke_off(
    own: Bridge, server: Scripted
) -> None:
    places = asyncio.Queue[str | None]()
    notes: list[Message] = [{"jsonrpc": "2.0", "method": f"notifications/{number}"} for number in range(2)]

    async def listen(fields: Message) -> Response:
        place = fields.get("last-event-id")
        places.put_nowait(place)
        return Response(
            f"id: {place or 'first'}+\nretry: 100\n".encode() + sse(notes[1 if place else 0]),
            media_type="text/event-stream",
        )

    server.on["GET"] = listen
    await own.open()
    assert [await own.hear(), await own.hear()] == notes
    assert [await places.get(), await places.get(), await places.get()] == [None, "first+", "first++"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_fields_say_what_each_era_asks_for(own: Bridge, server: Scripted, era: str) -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    server.tools = [tool("look", inputSchema=schema)]
    if era == "legacy":
        await own.open()
        await own.ask({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
        await own.ask({**CALL, "params": {"name": "look", "arguments": {"region": "Süd"}}})
        expected = {"mcp-session-id": "s1", "mcp-protocol-version": "2025-11-25"}
    else:
        await own.ask(modern("tools/list"))
        await own.ask(tool_call("look", {"region": "Süd"}))
        name = {"mcp-method": "tools/call", "mcp-name": "look"}
        expected = {"mcp-protocol-version": "2026-07-28", **name, "mcp-param-region": "=?base64?U8O8ZA==?="}
    assert {name: value for name, value in server.sent[-1].items() if name.startswith("mcp-")} == expected


async def test_a_client_that_does_not_read_stops_the_server_and_nothing_is_lost(own: Bridge, server: Scripted) -> None:
    count, large, moves, all_sent = 60, "x" * (1 << 20), asyncio.Event(), asyncio.Event()

    async def flood(message: Message) -> Response:
        async def stream() -> AsyncGenerator[bytes]:
            for number in range(count):
                moves.set()
                yield sse(progress(message, number, message=large))
            all_sent.set()
            yield sse({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})

        return StreamingResponse(stream(), media_type="text/event-stream")

    server.on["tools/call"] = flood
    await own.open()
    own.say({**CALL, "params": {"name": "look", "_meta": {"progressToken": 1}}})
    await asyncio.wait_for(moves.wait(), BOUND)
    with suppress(TimeoutError):
        while moves.is_set():
            moves.clear()
            await asyncio.wait_for(moves.wait(), 0.7)
    assert not all_sent.is_set()
    heard = [(await own.hear())["params"]["progress"] for _ in range(count)]
    assert heard == list(range(count))
    assert (await own.hear())["result"] == {"content": []}


# -- in which order ---------------------------------------------------------------------------------------------------


async def test_lines_written_at_once_reach_the_server_in_an_order_that_means_the_same(
    own: Bridge, server: Scripted
) -> None:
    asked, overtaken = asyncio.Event(), list[bool]()

    async def confirm(message: Message) -> Response:
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), 0.5)
        overtaken.append(asked.is_set())
        return Response(status_code=202)

    async def listed(message: Message) -> Response:
        asked.set()
        return said(message)

    server.on = {"notifications/initialized": confirm, "tools/list": listed}
    own.say(INITIALIZE, INITIALIZED, {"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
    assert [(await own.hear())["id"], (await own.hear())["id"]] == ["open", 2]
    assert overtaken == [False]
    methods = [message["method"] for message in server.seen]
    assert methods == ["initialize", "notifications/initialized", "tools/list"]


async def test_a_cancellation_never_overtakes_what_it_cancels(own: Bridge, server: Scripted) -> None:
    came = {number: asyncio.Event() for number in range(10)}
    gone = {number: asyncio.Event() for number in came}

    async def wait(message: Message) -> Response:
        came[message["id"]].set()
        await gone[message["id"]].wait()
        return said(message, "cancelled")

    async def cancel(message: Message) -> Response:
        gone[message["params"]["requestId"]].set()
        return Response(status_code=202)

    server.on = {"tools/call": wait, "notifications/cancelled": cancel}
    await own.open()
    for number, arrived in came.items():
        own.say({**CALL, "id": number})
        if number % 2:
            await asyncio.wait_for(arrived.wait(), BOUND)
        own.say(cancelled(number))
    await asyncio.wait_for(asyncio.gather(*(gone[number].wait() for number in came if number % 2)), BOUND)
    own.say({"jsonrpc": "2.0", "id": "last", "method": "tools/list"})
    while (await own.hear())["id"] != "last":
        pass
    # What was cancelled before it was sent was not sent at all, or both were, in their order.
    order = [message.get("id", message.get("params", {}).get("requestId")) for message in server.seen[2:-1]]
    kinds = [message["method"] for message in server.seen[2:-1]]
    for number in came:
        mine = [kind for kind, whose in zip(kinds, order, strict=True) if whose == number]
        assert mine in ([], ["tools/call", "notifications/cancelled"])


async def test_a_call_that_is_held_does_not_block_others(small: Scene, agent: Agent, own: Bridge) -> None:
    own.say(modern("server/discover", {}, 0), tool_call("act", {}, 1), tool_call("look", {}, 2))
    assert {(await own.hear())["id"], (await own.hear())["id"]} == {0, 2}
    await small.review(agent)
    assert (await own.hear())["id"] == 1


async def test_a_line_that_is_no_message_is_answered_and_the_next_one_passes(own: Bridge) -> None:
    await own.open()
    own.say(b"Starting up...", b"", b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', b'\xef\xbb\xbf{"jsonrpc":"2.0"}')
    answers = [await own.hear() for _ in range(3)]
    assert [(one["id"], one["error"]["code"]) for one in answers] == [(None, -32700), (None, -32600), (None, -32700)]
    assert "content" in (await own.ask(CALL))["result"]
    status, out, error = await own.leave()
    assert (status, out) == (0, b"")
    assert "A line of the client was not passed on. Parse error" in error


# -- when it ends -----------------------------------------------------------------------------------------------------


@pytest.fixture
def deleted(server: Scripted) -> asyncio.Queue[str]:
    """The sessions that were ended at the server."""
    sessions = asyncio.Queue[str]()

    async def delete(fields: Message) -> Response:
        sessions.put_nowait(fields["mcp-session-id"])
        return Response()

    server.on["DELETE"] = delete
    return sessions


@pytest.mark.parametrize("way", ["EOF", "SIGTERM", "SIGINT", "SIGHUP"])
async def test_it_ends_with_its_client_and_ends_the_session(own: Bridge, deleted: asyncio.Queue[str], way: str) -> None:
    await own.open()
    if way == "EOF":
        own.stdin.close()
    else:
        own.process.send_signal(signal.Signals[way])
    assert await own.ended() == (0, b"", "")
    assert deleted.get_nowait() == "s1"


async def test_a_client_that_ends_while_a_call_waits_can_come_back_for_it(
    own: Bridge, deleted: asyncio.Queue[str], small: Scene, agent: Agent
) -> None:
    await own.open()
    own.say({**CALL, "params": {"name": "act", "arguments": {}}})
    approval = await small.submitted(agent)
    assert await own.leave() == (0, b"", "")
    assert deleted.empty(), "the end of its session would be the end of the approval"
    assert (await small.happened("approval.abandoned", agent)).detail["why"] == "lost"
    assert (await small.decide(approval)).state == "approved"


async def test_a_server_that_does_not_answer_the_end_of_its_session_does_not_keep_it(
    own: Bridge, server: Scripted
) -> None:
    async def never(fields: Message) -> Response:
        await asyncio.Event().wait()
        return Response()

    server.on["DELETE"] = never
    await own.open()
    status, _, _ = await asyncio.wait_for(own.leave(), PATIENCE_OF_CLIENTS)
    assert status == 0


async def test_a_server_that_does_not_take_the_last_notification_does_not_keep_it(
    own: Bridge, server: Scripted
) -> None:
    taking = asyncio.Event()

    async def never(message: Message) -> Response:
        taking.set()
        await asyncio.Event().wait()
        return Response()

    server.on["notifications/last"] = never
    await own.open()
    own.say({"jsonrpc": "2.0", "method": "notifications/last"})
    await asyncio.wait_for(taking.wait(), BOUND)
    status, _, _ = await asyncio.wait_for(own.leave(), PATIENCE_OF_CLIENTS)
    assert status == 0


async def test_what_is_written_just_before_the_end_is_still_sent(
    own: Bridge, server: Scripted, deleted: asyncio.Queue[str]
) -> None:
    await own.open()
    own.say({"jsonrpc": "2.0", "method": "notifications/last"})
    assert (await own.leave())[0] == 0
    assert server.seen[-1]["method"] == "notifications/last"
    assert deleted.get_nowait() == "s1"


async def test_it_ends_when_nobody_reads_it_any_more(agent: Agent) -> None:
    reading, writing = socket.socketpair()
    program = await asyncio.create_subprocess_exec(
        *command("one"),
        env=environment(agent.url, agent.token),
        stdin=asyncio.subprocess.PIPE,
        stdout=writing.fileno(),
    )
    writing.close()
    reading.close()
    assert program.stdin is not None
    program.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
    assert await asyncio.wait_for(program.wait(), BOUND) == 0


@pytest.mark.parametrize("kind", ["file", "socket"])
async def test_its_input_may_be_a_file_or_a_socket(agent: Agent, server: Scripted, tmp_path: Path, kind: str) -> None:
    said_to_it = b"".join(json.dumps(line).encode() + b"\n" for line in (INITIALIZE, INITIALIZED))
    ours, theirs = socket.socketpair()
    path = tmp_path / "lines"
    path.write_bytes(said_to_it)
    with path.open() as file:
        program = await asyncio.create_subprocess_exec(
            *command("one"),
            env=environment(agent.url, agent.token),
            stdin=file.fileno() if kind == "file" else theirs.fileno(),
            stdout=subprocess.PIPE,
        )
    theirs.close()
    if kind == "socket":
        ours.sendall(said_to_it)
    assert program.stdout is not None
    assert json.loads(await asyncio.wait_for(program.stdout.readline(), BOUND))["id"] == "open"
    ours.close()
    assert await asyncio.wait_for(program.wait(), BOUND) == 0
    assert server.seen[-1]["method"] == "notifications/initialized"


def test_it_starts_without_what_takes_long_to_import() -> None:
    program = "import sys, broker.bridge.relay; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "aiohttp" in modules.split()
    assert {"mcp", "mcp_types", "fastapi", "sqlmodel", "uvicorn", "pydantic"}.isdisjoint(modules.split())
