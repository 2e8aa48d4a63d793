"""An upstream behind a URL: what goes up and comes down, and what a failure proves."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path
from typing import Any

import pytest

from broker.errors import SettingsError, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.sse import events
from broker.gateway.upstreams import UpstreamRequest
from broker.gateway.upstreams.http import HttpUpstream
from broker.gateway.wire import dumps, loads
from tests.gateway.asking import OK, always, answering, asked, post, text, upstream
from tests.servers import feature_http, raw_http, read_http

ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


# -- upwards ----------------------------------------------------------------------------------------------------------


async def test_what_was_judged_is_what_is_sent() -> None:
    message = {"id": 2**70, "method": "m", "params": {"é": [1.5, None]}}
    line, fields, body = await asked(post(message, [(b"content-type", b"text/x"), (b"content-length", b"7")]))
    assert line == "POST /mcp HTTP/1.1"
    assert fields["content-type"] == ["application/json"]
    assert (body, fields["content-length"]) == (dumps(message), [str(len(body))])


async def test_end_to_end_fields_go_up_and_the_clients_secrets_and_hops_do_not() -> None:
    kept = [
        (b"accept", b"application/json"),
        (b"mcp-protocol-version", b"2025-11-25"),
        (b"x-other", b"1"),
        (b"x-other", b"2"),
    ]
    dropped = [
        (b"authorization", b"Bearer grant"),
        (b"cookie", b"a=b"),
        (b"host", b"broker.example"),
        (b"origin", b"https://broker.example"),
        (b"forwarded", b"for=1.2.3.4"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-forwarded-anything", b"x"),
        (b"te", b"trailers"),
        (b"upgrade", b"h2c"),
        (b"transfer-encoding", b"chunked"),
        (b"proxy-authorization", b"x"),
        (b"accept-encoding", b"gzip"),
        (b"mcp-session-id", b"the-brokers"),
        (b"mcp-param-region", b"unchecked in legacy"),
        (b"connection", b"close, X-Named"),
        (b"x-named", b"one hop only"),
    ]
    _, fields, _ = await asked(post(headers=[*kept, *dropped]))
    host = fields.pop("host")
    assert host[0].startswith("127.0.0.1:")
    assert fields == {
        "accept": ["application/json"],
        "mcp-protocol-version": ["2025-11-25"],
        "x-other": ["1", "2"],
        "accept-encoding": ["identity"],
        "content-type": ["application/json"],
        "content-length": [fields["content-length"][0]],
    }


async def test_the_upstreams_own_fields_win_and_its_session_goes_up() -> None:
    own = {"Authorization": "Bearer own", "X-Tenant": "a"}
    request = post(headers=[(b"x-tenant", b"b"), (b"mcp-param-region", b"eu")], session="s1", modern=True)
    _, fields, _ = await asked(request, own)
    assert (fields["authorization"], fields["x-tenant"]) == (["Bearer own"], ["a"])
    assert (fields["mcp-session-id"], fields["mcp-param-region"]) == (["s1"], ["eu"])


async def test_a_get_has_no_body() -> None:
    line, fields, body = await asked(UpstreamRequest("GET", "g1", modern=False, session="s1"))
    assert (line, body) == ("GET /mcp HTTP/1.1", b"")
    assert "content-type" not in fields


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    line, _, _ = await asked(post())
    assert line == "POST /mcp HTTP/1.1"


# -- downwards --------------------------------------------------------------------------------------------------------


async def test_the_answer_comes_down_untouched_without_what_concerns_one_hop() -> None:
    body = b'{ "id" :1, "result":{} }'
    response = (
        b"HTTP/1.1 418 Teapot\r\nContent-Type: application/json\r\nMcp-Session-Id: s9\r\nX-Other: 1\r\n"
        b"Connection: X-Named\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=b\r\n"
        b"Access-Control-Allow-Origin: *\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    async with answering(always(response)) as server:
        reply = await server.send(post())
        assert (reply.status, reply.session) == (418, "s9")
        assert reply.headers == [(b"content-type", b"application/json"), (b"x-other", b"1")]
        assert await text(reply) == body


async def test_a_cookie_is_not_sent_back() -> None:
    seen: list[list[str]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head, _ = await read_http(reader)
            seen.append(head)
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=b\r\n\r\n"))

    async with answering(handle) as server:
        for _ in range(2):
            await text(await server.send(post()))
    assert not [line for line in seen[1] if line.lower().startswith("cookie")]


async def test_an_answer_that_is_compressed_though_not_asked_for_is_decompressed() -> None:
    packed = gzip.compress(b'{"id":1}')
    response = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n" + packed
    async with answering(always(response)) as server:
        reply = await server.send(post())
        assert (reply.headers, await text(reply)) == ([(b"content-type", b"application/json")], b'{"id":1}')


async def test_a_stream_comes_down_as_it_is_written() -> None:
    more = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\n: a\r\n"
        )
        await more.wait()
        writer.write(b"1\r\n\n\r\n0\r\n\r\n")

    async with answering(handle) as server:
        reply = await server.send(post())
        assert await anext(reply.chunks) == b": a"
        more.set()
        assert await text(reply) == b"\n"


async def test_an_answer_closed_early_closes_the_connection() -> None:
    lost = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: a\n")
        assert await reader.read() == b""
        lost.set()

    async with answering(handle) as server:
        reply = await server.send(post())
        await anext(reply.chunks)
        await reply.close()
        await lost.wait()


async def test_a_request_given_up_before_its_answer_closes_the_connection() -> None:
    arrived, lost = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        arrived.set()
        assert await reader.read() == b""
        lost.set()

    async with answering(handle) as server:
        task = asyncio.create_task(server.send(post()))
        await arrived.wait()
        task.cancel()
        await lost.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_session_that_the_server_does_not_know_comes_down_as_its_404() -> None:
    async with answering(always(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")) as server:
        assert (await server.send(post(session="old"))).status == 404


async def test_more_than_a_hundred_answers_can_be_open_at_once() -> None:
    all_here, count = asyncio.Event(), 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await read_http(reader)
        count += 1
        if count == 150:
            all_here.set()
        await all_here.wait()
        writer.write(OK)

    async with answering(handle) as server:
        replies = await asyncio.gather(*(server.send(post()) for _ in range(150)))
        assert [await text(reply) for reply in replies] == [b"{}"] * 150


# -- failures ---------------------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with upstream(f"http://127.0.0.1:{port}/mcp") as server:
        with pytest.raises(UpstreamUnreachable, match="could not be reached"):
            await server.send(post())


async def test_a_host_that_does_not_exist_is_unreachable() -> None:
    async with upstream("http://no-such-host.invalid/mcp") as server:
        with pytest.raises(UpstreamUnreachable, match="'git'"):
            await server.send(post())


async def test_a_failed_tls_handshake_is_unreachable() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"this is not TLS\r\n")

    async with raw_http(handle) as url, upstream(url.replace("http:", "https:")) as server:
        with pytest.raises(UpstreamUnreachable):
            await server.send(post())


async def test_a_connection_lost_after_the_request_is_interrupted() -> None:
    async with answering(always(b"")) as server:
        with pytest.raises(UpstreamInterrupted, match="may or may not have run"):
            await server.send(post())


async def test_an_answer_that_is_not_http_is_interrupted() -> None:
    async with answering(always(b"SSH-2.0-x\r\n\r\n")) as server:
        with pytest.raises(UpstreamInterrupted):
            await server.send(post())


@pytest.mark.parametrize("framing", [b"content-length: 10", b"transfer-encoding: chunked"])
async def test_an_answer_that_breaks_off_is_interrupted(framing: bytes) -> None:
    async with answering(
        always(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + framing + b"\r\n\r\n3\r\nabc\r\n")
    ) as server:
        reply = await server.send(post())
        with pytest.raises(UpstreamInterrupted, match="middle of its answer"):
            await text(reply)


async def test_a_call_is_never_sent_twice_when_a_kept_connection_turns_out_to_be_closed() -> None:
    posts = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal posts
        await read_http(reader)
        posts += 1
        writer.write(OK)
        await read_http(reader)  # the next one arrives, and is lost with the connection
        posts += 1

    async with answering(handle) as server:
        await text(await server.send(post()))
        with pytest.raises(UpstreamInterrupted):
            await server.send(post())
    assert posts == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [(301, UpstreamUnreachable), (307, UpstreamUnreachable), (308, UpstreamUnreachable), (303, UpstreamInterrupted)],
)
async def test_a_redirect_is_not_followed(status: int, error: type[Exception]) -> None:
    visits = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        await read_http(reader)
        visits += 1
        writer.write(b"HTTP/1.1 %d Elsewhere\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n" % status)

    async with answering(handle) as server:
        with pytest.raises(error, match="not followed"):
            await server.send(post())
    assert visits == 1


# -- a real server ----------------------------------------------------------------------------------------------------


def call(tool: str, **arguments: Any) -> UpstreamRequest:
    params = {"name": tool, "arguments": arguments, "_meta": {**ENVELOPE, "progressToken": "t"}}
    headers = [
        (b"accept", b"application/json, text/event-stream"),
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", tool.encode()),
    ]
    return post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers, modern=True)


async def test_a_server_of_the_sdk_streams_progress_and_sees_a_closed_answer_as_a_cancel(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    async with feature_http(effects) as url, upstream(url) as server:
        reply = await server.send(call("append_line", line="one"))
        assert loads(await text(reply))["result"]["content"][0]["text"] == "appended"
        slow = await server.send(call("slow", name="a", steps=1))
        stream = events(slow.chunks)
        assert loads((await anext(stream)).data or b"")["params"]["progress"] == 1
        await slow.close()
        while effects.read_text() != "one\ncancelled a\n":  # noqa: ASYNC110 - another process writes the file
            await asyncio.sleep(0.01)


async def test_a_server_that_refuses_the_brokers_credentials_does_not_make_the_client_sign_in() -> None:
    challenge = b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n"
    async with answering(always(challenge)) as server:
        with pytest.raises(UpstreamUnreachable, match="refuses the broker's credentials"):
            await server.send(post())


@pytest.mark.parametrize("kind", [b"content-type: text/html\r\n", b""])
async def test_an_answer_that_is_no_mcp_is_told_as_that(kind: bytes) -> None:
    page = b"HTTP/1.1 200 OK\r\n" + kind + b"content-length: 11\r\n\r\n<h1>hi</h1>"
    async with answering(always(page)) as server:
        with pytest.raises(UpstreamInterrupted, match="which is no MCP"):
            await server.send(post())


async def test_a_field_that_http_does_not_allow_reaches_nobody() -> None:
    with pytest.raises(SettingsError, match="does not allow"):
        HttpUpstream("git", "http://127.0.0.1/mcp", {"x-key": "a\nb"})
    async with answering(always(OK)) as server:
        for forged in ((b"x-key", b"a\r\nx: b"), (b"x: y\r\nz", b"")):
            with pytest.raises(UpstreamUnreachable, match="was not asked"):
                await server.send(post(headers=[forged]))


async def test_fields_that_could_pass_for_checked_ones_do_not_go_up() -> None:
    seen: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend((await read_http(reader))[0])
        writer.write(OK)

    forged = [(b"x_forwarded_for", b"1"), (b"mcp_session_id", b"1"), (b"x-remote-user", b"root"), (b"x-mine", b"kept")]
    async with answering(handle) as server:
        await text(await server.send(post(headers=forged)))
    fields = "\n".join(seen).lower()
    assert "x-mine: kept" in fields
    assert not any(name in fields for name in ("x_forwarded", "mcp_session", "x-remote"))


async def test_a_closed_upstream_is_not_opened_again() -> None:
    async with answering(always(OK)) as server:
        await server.close()
        with pytest.raises(UpstreamUnreachable, match="being closed"):
            await server.send(post())
