"""One agent or server that sends what is dear to read does not stop the others: each of these is the attack."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from broker.errors import UpstreamInterrupted
from broker.gateway.delivery import Delivery
from broker.gateway.jsonrpc import WireError, parse_message
from broker.gateway.replies import messages, once, rewrite
from broker.gateway.sse import SseParser
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.upstreams.stdio.exchange import LARGEST_ID
from broker.gateway.upstreams.stdio.process import LINES_A_TURN, Command, ServerProcess
from broker.gateway.upstreams.stdio.words import MOST_LINES, Words
from broker.gateway.weight import MOST_OF_A_SERVER, MOST_OF_AN_AGENT, outweighs
from tests.gateway.scene import Agent, tool_call
from tests.gateway.served import serving
from tests.gateway.stdio import opened, post, result, seen, upstream
from tests.servers import BOUND, raw_http, read_http
from tests.servers.scripted import Scripted

pytestmark = pytest.mark.timeout(60)

CHUNK = 256 * 1024
"""What one read of a socket brings."""
BODY = 4_000_000
"""What an agent may send."""


class Turns:
    """How often the event loop comes round to others; and what happened between two of their turns, if told."""

    def __init__(self) -> None:
        self.count = 0
        self.done = 0
        self.most = 0

    def work(self, _: Any = None) -> None:
        """Something was done."""
        self.done += 1

    async def turn(self) -> None:
        """Be one of the others."""
        while True:
            self.done = 0
            await asyncio.sleep(0)
            self.count += 1
            self.most = max(self.most, self.done)

    @asynccontextmanager
    async def counted(self) -> AsyncGenerator[None]:
        """Count while something is done."""
        others = asyncio.create_task(self.turn())
        await asyncio.sleep(0)
        self.count = 0
        yield
        others.cancel()
        await asyncio.wait([others])


# -- an agent's body --------------------------------------------------------------------------------------------------


def arguments(text: bytes) -> bytes:
    """A call with these arguments."""
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":' + text + b"}}}"


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * (BODY // 2),
        b'"' + b',\\"' * (BODY // 3) + b"[" * 101,
        b'"' + b"\\" * BODY,
        b'"' * BODY,
        b'",' * (BODY // 2),
        b"[]" * (BODY // 2),
        b"[" + (b"1" * 18 + b",") * (BODY // 19),
        arguments(b"[" + b"{}," * (BODY // 3) + b"{}]"),
        arguments(b"[12345678901234567890" + b",1" * (BODY // 2) + b"]"),
        arguments(b"{" + b",".join(b'"%d":0' % number for number in range(380_000)) + b"}"),
    ],
    ids=lambda body: body[:12] + body[-12:],
)
def test_a_body_is_refused_in_a_moment_whatever_is_in_it(body: bytes) -> None:
    start = time.process_time()
    with pytest.raises(WireError):
        parse_message(body)
    assert time.process_time() - start < 1.5  # the worst takes 0.2 s here


@pytest.mark.parametrize(
    ("text", "heavy"),
    [
        (b"[" + b"1," * (MOST_OF_AN_AGENT - 20) + b"1]", False),
        (b"[" + b"1," * MOST_OF_AN_AGENT + b"1]", True),
        (b"[" + b"[]," * (MOST_OF_AN_AGENT // 5 - 20) + b"1]", False),
        (b"[" + b"[]," * (MOST_OF_AN_AGENT // 5) + b"1]", True),
        (b'"' + b'[{,\\"}]' * 500_000 + b'"', False),
        (b'["\\\\",' + b"1," * MOST_OF_AN_AGENT + b'"\\""]', True),
    ],
)
def test_an_agent_may_send_many_values_and_long_text_but_not_too_many(text: bytes, heavy: bool) -> None:
    body = arguments(text)
    json.loads(body)
    if not heavy:
        assert parse_message(body).kind == "request"
        return
    with pytest.raises(WireError, match="more than 200000 values") as refused:
        parse_message(body)
    assert (refused.value.rpc_code, refused.value.status) == (-32600, 400)


async def test_an_agent_with_heavy_calls_is_told_why_they_are_refused(scripted_agent: Agent) -> None:
    answer = await scripted_agent.send("one", arguments(b"[" + b"{}," * 1_000_000 + b"{}]"))
    assert answer.status == 400
    assert "more than 200000 values" in (await answer.message())["error"]["message"]


@pytest.fixture
async def scripted_agent(scripted_scene: Any) -> Agent:
    """A grant before the scripted server."""
    return await scripted_scene.agent()


# -- a server's answer ------------------------------------------------------------------------------------------------

ROWS = 100_000


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"text": 'He said: "a, b, [c] {d}".\n' * 800_000}).encode(),
        json.dumps({"blob": "QUJD" * 5_000_000}).encode(),
        json.dumps([["1,5", "x", 3, None, "four"]] * ROWS).encode(),
        json.dumps([{"a": "1,5", "b": "x", "c": 3, "d": None, "e": "[]"}] * ROWS).encode(),
    ],
    ids=["text", "blob", "rows", "objects"],
)
async def test_large_ordinary_answers_are_read(text: bytes) -> None:
    reply = UpstreamReply(200, [(b"content-type", b"application/json")], once(b'{"id":1,"result":' + text + b"}"))
    changed = await rewrite(reply, lambda response: {"was": response["result"]})
    assert json.loads(b"".join([chunk async for chunk in changed.chunks]))["was"] == json.loads(text)


@pytest.mark.parametrize("text", [b"{}," * 10_000_000, b"1," * 15_000_000, b'"",' * 10_000_000])
async def test_an_answer_of_too_many_values_is_not_parsed(text: bytes) -> None:
    reply = UpstreamReply(200, [(b"content-type", b"application/json")], once(b'{"id":1,"result":[' + text + b"1]}"))
    start = time.process_time()
    with pytest.raises(UpstreamInterrupted, match="more than 1000000 values"):
        await rewrite(reply, lambda response: response)
    assert time.process_time() - start < 1.5  # 0.1 s here; to parse it takes seconds, and a gigabyte


# -- a stream of events -----------------------------------------------------------------------------------------------

FLOODS = [b"\n", b"\r\n", b"\r", b":\n", b":\n\n", b"data: {}\n\n", b"data\n", b"id: 1\n\n"]


def stream_of(kind: bytes, chunks: int = 1) -> UpstreamReply:
    """Chunks of nothing but this."""
    return UpstreamReply(200, [(b"content-type", b"text/event-stream")], once(*[kind * (CHUNK // len(kind))] * chunks))


@pytest.mark.parametrize("kind", [b"\n", b"\r", b"\r\n", b":\n", b"\n:\n"])
def test_lines_that_are_no_event_are_one_piece(kind: bytes) -> None:
    flood = kind * (CHUNK // len(kind))
    assert [(piece.raw, piece.data) for piece in SseParser().feed(flood)] == [(flood, None)]
    mixed = [piece.data for piece in SseParser().feed(flood + b"data: x\n\n" + flood + b"data: y\n\n")]
    assert mixed == [None, b"x", None, b"y"]


async def delivered(reply: UpstreamReply) -> bytes:
    """As it is passed on untouched."""
    passed = await Delivery(1, False, lambda why: {"why": why}).of(reply)
    return b"".join([chunk async for chunk in passed.chunks])


async def changed(reply: UpstreamReply) -> bytes:
    """As it is passed on with another response."""
    return b"".join([chunk async for chunk in (await rewrite(reply, lambda response: response)).chunks])


async def read(reply: UpstreamReply) -> bytes:
    """As it is read when a person allowed the call."""
    return b"".join([raw async for _, raw in messages(reply)])


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("way", [delivered, changed, read])
async def test_others_have_their_turns_while_a_chunk_of_many_lines_is_read(way: Any, kind: bytes) -> None:
    turns = Turns()
    async with turns.counted():
        passed = await way(stream_of(kind))
    whole = kind * (CHUNK // len(kind))
    assert passed.startswith(whole) if kind != b"data\n" else True  # an event that never ended
    assert turns.count >= 100


@pytest.mark.parametrize("way", [delivered, changed, read])
async def test_small_chunks_cost_no_turn(way: Any) -> None:
    turns = Turns()
    chunks = once(*[b"data: {}\n\n"] * 100)
    async with turns.counted():
        await way(UpstreamReply(200, [(b"content-type", b"text/event-stream")], chunks))
    assert turns.count <= 1


# -- a process --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def process(script: str, on_line: Callable[[bytes], None]) -> AsyncGenerator[asyncio.Event]:
    """A process that runs `script`; gives what is set when nothing more comes from it."""
    ended = asyncio.Event()
    made = ServerProcess(Command("flood", [sys.executable, "-c", script]), on_line, ended.set, BOUND)
    await made.start()
    try:
        yield ended
    finally:
        await made.end()


@pytest.mark.parametrize("line", [b"x\n", b"\n", b"{}\n"])
async def test_others_have_their_turns_while_a_process_floods_its_output(line: bytes) -> None:
    turns, lines = Turns(), 0

    def take(_: bytes) -> None:
        nonlocal lines
        lines += 1
        turns.work()

    script = f"import os; [os.write(1, {line!r} * 20_000) for _ in range(5)]"
    async with process(script, take) as ended, turns.counted():
        await asyncio.wait_for(ended.wait(), BOUND)
    assert lines == 100_000
    assert turns.most <= 2 * LINES_A_TURN


async def test_of_a_flood_in_its_stderr_the_log_has_the_beginning_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    script = "import os; [os.write(2, b'word\\n' * 10_000) for _ in range(10)]"
    async with process(script, lambda _: None) as ended:
        await asyncio.wait_for(ended.wait(), BOUND)
    told = [record.getMessage() for record in caplog.records if record.name == "broker.upstream.flood"]
    words = [line for line in told if line == "word"]
    left_out = [int(line.split()[-4]) for line in told if line.endswith("lines left out")]
    assert MOST_LINES <= len(words) < 10 * MOST_LINES
    assert len(words) + sum(left_out) == 100_000


async def test_after_a_flood_the_log_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    words = Words(logging.getLogger("flood"), every=0.05)
    words.feed(b"one\n" * 1000)
    words.feed(b"half")
    words.feed(b" a line\n" + b"x" * 100_000 + b"\nrest")
    async with asyncio.timeout(BOUND):
        while "left out" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody that it was written to
            await asyncio.sleep(0)
    words.feed(b" of it\n")
    words.end()
    told = [record.getMessage() for record in caplog.records if record.name == "flood"]
    assert told[MOST_LINES:] == ["wrote too much at once: 802 lines left out", "rest of it"]


SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "held":
        continue
    bomb = b"[" + b"{}," * 10_000_000 + b"1]"
    front, end = message["params"]["around"]
    sys.stdout.buffer.write(front.replace("ID", str(message["id"])).encode() + bomb)
    sys.stdout.buffer.write(end.replace("ID", str(message["id"])).encode() + b"\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize(
    "around",
    [
        ('{"jsonrpc":"2.0","id":ID,"result":', "}"),
        ('{ "id": ID, "jsonrpc": "2.0", "result": ', "}"),
        ('{"result":', ',"jsonrpc":"2.0","id":ID}'),
        ('{"jsonrpc":"2.0", "result":{"id":1,"a":', '}, "id": ID}'),
    ],
)
async def test_a_bomb_of_a_process_ends_the_request_that_it_answers_and_no_other(around: tuple[str, str]) -> None:
    async with upstream(sys.executable, "-c", SERVER) as server:
        held = asyncio.create_task(server.send(post("held", id=5)))
        await asyncio.sleep(0)
        start = time.process_time()
        with pytest.raises(UpstreamInterrupted, match="more than 1000000 values"):
            await server.send(post("bomb", {"around": around}, id=6))
        assert time.process_time() - start < 2
        assert not held.done()
        held.cancel()


async def test_a_bomb_that_is_no_answer_is_ignored_and_told(caplog: pytest.LogCaptureFixture) -> None:
    bomb = {"method": "notifications/x", "params": {"a": [1] * (MOST_OF_A_SERVER + 10)}}
    async with upstream() as server:
        session = await opened(server)
        await result(server, post("test/say", {"before": [bomb]}, session=session, headers=()))
    assert "sent a message of more than 1000000 values, which is ignored" in caplog.text


BATCH = """
import json, sys
for line in sys.stdin:
    print(json.dumps([{"method": "notifications/x"}] * 100_000), flush=True)
    print(json.dumps({"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": {}}), flush=True)
"""


async def test_a_batch_of_very_many_messages_is_ignored_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async with upstream(sys.executable, "-c", BATCH) as server:
        assert await result(server, post("x", headers=())) == {}
    assert "sent a batch of more than 1000 messages, which is ignored" in caplog.text


async def test_a_server_may_name_its_requests_with_short_ids_only(caplog: pytest.LogCaptureFixture) -> None:
    names: list[Any] = ["x" * LARGEST_ID, "x" * 2_000_000, 10**1024, 1.5, None, True, {"a": 1}]
    asked = [{"id": name, "method": "roots/list"} for name in names]
    fine = [{"id": name, "method": "roots/list"} for name in ("x" * (LARGEST_ID - 2), 2**64)]
    async with upstream() as server:
        session = await opened(server)
        await result(server, post("test/say", {"before": [*asked, *fine]}, session=session, headers=()))
        answers = [message for message in await seen(server, session) if "error" in message]
    assert [(answer["id"], answer["error"]["code"]) for answer in answers] == [(None, -32600)] * len(names)
    assert caplog.text.count("the id of a request has to be") == 1


# -- all of it at once ------------------------------------------------------------------------------------------------

FLOODER = """
import json, os, sys, time
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "tools/call":
        stream, text = message["params"]["name"].split()
        until = time.monotonic() + 1
        while time.monotonic() < until:
            os.write(int(stream), {"x": b"x\\n", "note": b'{"jsonrpc":"2.0","method":"a"}\\n'}[text] * 20_000)
    known = {"supportedVersions": ["2026-07-28"], "capabilities": {}, "serverInfo": {"name": "f", "version": "1"}}
    result = {"resultType": "complete", "content": [], "tools": [], **known}
    print(json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": result}), flush=True)
"""


async def patience(agent: Agent, flood: asyncio.Future[Any]) -> float:
    """How long an ordinary call of another waits during a flood: the median, which no pause of the machine decides."""
    waits: list[float] = []
    while not flood.done():
        start = time.monotonic()
        await (await agent.call("good", "look")).whole()
        waits.append(time.monotonic() - start)
    return median(waits)


async def test_a_call_of_another_is_answered_while_a_process_floods(tmp_path: Path, scripted_server: Scripted) -> None:
    scripted_server.reset()
    upstreams = {"good": {"url": scripted_server.url}, "bad": {"command": [sys.executable, "-c", FLOODER]}}
    async with serving(tmp_path, upstreams) as broker:
        await (await broker.agent.call("good", "look")).whole()
        for tool in ("1 x", "2 x", "1 note"):

            async def flood(tool: str = tool) -> None:
                await (await broker.agent.call("bad", tool)).whole()

            assert await patience(broker.agent, asyncio.ensure_future(flood())) < 0.4, tool


async def test_a_call_of_another_is_answered_while_a_stream_floods(tmp_path: Path, scripted_server: Scripted) -> None:
    kinds = {"lines": b"\n", "events": b"data: {}\n\n", "comments": b":\n"}

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (message := json.loads((await read_http(reader))[1]))["method"] != "tools/call":
            known = {"jsonrpc": "2.0", "id": message["id"], "result": {"supportedVersions": ["2026-07-28"]}}
            body = json.dumps(known).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        kind = kinds[message["params"]["name"]]
        for _ in range(8):
            writer.write(kind * (CHUNK // len(kind)))
            await writer.drain()

    scripted_server.reset()
    async with raw_http(floods) as url:
        upstreams = {"good": {"url": scripted_server.url}, "bad": {"url": url}}
        async with serving(tmp_path, upstreams) as broker:
            await (await broker.agent.call("good", "look")).whole()
            for kind in kinds:

                async def flood(kind: str = kind) -> None:
                    answer = await broker.agent.send("bad", tool_call(kind))
                    with suppress(asyncio.CancelledError):
                        await answer.response.read()

                assert await patience(broker.agent, asyncio.ensure_future(flood())) < 0.4, kind


def test_what_is_weighed_is_counted_outside_of_strings() -> None:
    assert not outweighs(b'["' + b"," * 1000 + b'"]', 100)
    assert outweighs(b'["\\\\' + b'",' + b"1," * 1000 + b'"\\""]', 100)
    assert not outweighs(b"[" + b"1," * 90 + b"1]", 100)
