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
from broker.gateway.upstreams import UpstreamReply, UpstreamRequest
from broker.gateway.upstreams.http import HttpUpstream
from broker.gateway.wire import dumps, loads
from tests.gateway.asking import EVENTS, OK, always, answering, asked, each, get, post, text, upstream
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


# -- fields that an attacker would choose -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(b"proxy-connection proxy-anything via x-client-ip client-ip true-client-ip cf-connecting-ip".split()),
        *(b"x-forwarded-user x-webauth-user x-authenticated-user x-ms-client-principal-id x-ssl-client-s-dn".split()),
        *(b"content-encoding content-md5 digest x-http-method-override keep-alive http2-settings expect".split()),
        *(b"last_event_id x_forwarded_for cookie2 referer max-forwards trailer".split()),
    ],
)
async def test_a_field_that_speaks_for_a_proxy_or_for_other_bytes_does_not_go_up(name: bytes) -> None:
    _, fields, _ = await asked(post(headers=[(name, b"1")]))
    assert name.decode() not in fields


async def test_where_a_stream_is_resumed_goes_up_and_so_do_bytes_beyond_ascii() -> None:
    _, fields, _ = await asked(post(headers=[(b"last-event-id", b"7"), (b"x-title", "é".encode())]))
    assert (fields["last-event-id"], fields["x-title"]) == (["7"], ["é"])


async def test_a_field_of_mcp_that_is_there_twice_does_not_go_up() -> None:
    twice = [(b"mcp-protocol-version", b"2025-11-25"), (b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"m")]
    _, fields, _ = await asked(post(headers=twice))
    assert "mcp-protocol-version" not in fields
    assert fields["mcp-method"] == ["m"]


async def test_a_client_can_neither_frame_the_request_nor_say_where_it_goes() -> None:
    forged = [
        (b"content-length", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"host", b"another"),
        (b"connection", b"host, Content-Length, mcp-session-id, authorization"),
        (b"mcp-session-id", b"stolen"),
    ]
    _, fields, body = await asked(post(headers=forged, session="own"), {"authorization": "Bearer own"})
    assert fields["content-length"] == [str(len(body))]
    assert "transfer-encoding" not in fields
    assert fields["host"][0].startswith("127.0.0.1:")
    assert (fields["mcp-session-id"], fields["authorization"]) == (["own"], ["Bearer own"])


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        *((name, False) for name in ("X-Accel-Redirect", "X-Sendfile", "WWW-Authenticate", "Proxy-Authenticate")),
        *((name, False) for name in ("Set-Cookie", "Service-Worker-Allowed", "Report-To", "Clear-Site-Data")),
        *((name, True) for name in ("X-Accel-Buffering", "Cache-Control", "Retry-After")),
    ],
)
async def test_a_server_cannot_speak_for_the_brokers_origin_or_to_its_proxy(name: str, passes: bool) -> None:
    response = OK.replace(b"\r\n\r\n", f"\r\n{name}: 1\r\n\r\n".encode())
    async with answering(always(response)) as server:
        reply = await server.send(post())
        assert ((name.lower().encode(), b"1") in reply.headers) is passes


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Connection", "Mcp-Session-Id"])
async def test_a_configured_field_that_frames_messages_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        HttpUpstream("git", "http://127.0.0.1/mcp", {name: "1"})


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://127.0.0.1:{}", "POST / HTTP/1.1", "127.0.0.1"),
        ("http://localhost:{}/a b?q=é#x", "POST /a%20b?q=%C3%A9 HTTP/1.1", "localhost"),
    ],
)
async def test_an_address_is_written_as_http_wants_it(url: str, line: str, host: str) -> None:
    heads: list[list[str]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_http(reader))[0])
        writer.write(OK)

    async with raw_http(handle) as there:
        port = there.rpartition(":")[2].removesuffix("/mcp")
        async with upstream(url.format(port)) as server:
            await text(await server.send(post()))
    assert (heads[0][0], heads[0][1]) == (line, f"host: {host}:{port}")


# -- one answer for one request ---------------------------------------------------------------------------------------

FORGED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\nforged"


class Lingering:
    """A server that says more than it was asked for on each connection.

    Args:
        extra: what, behind the answer to the first request.
        late: whether only when told to.
    """

    def __init__(self, extra: bytes, *, late: bool) -> None:
        self.extra = extra
        self.late = late
        self.connections = 0
        self.say, self.said = asyncio.Event(), asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await read_http(reader)
        if self.late:
            writer.write(OK)
            await self.say.wait()
            writer.write(self.extra)
        else:
            writer.write(OK + self.extra)
        self.said.set()
        while True:
            await read_http(reader)
            writer.write(OK)


@pytest.mark.parametrize("extra", [FORGED, FORGED[:9], b"x"])
@pytest.mark.parametrize("second", ["g1", "g2"])
@pytest.mark.parametrize("late", [False, True])
async def test_what_was_not_asked_for_is_never_the_answer_to_the_next_request(
    extra: bytes, second: str, late: bool
) -> None:
    """With `late` the bytes lie in the kernel when the next request starts: the loop has not read them yet."""
    lingering = Lingering(extra, late=late)
    async with answering(lingering) as server:
        assert await text(await server.send(post(grant="g1"))) == b"{}"
        lingering.say.set()
        await lingering.said.wait()
        assert await text(await server.send(post(grant=second))) == b"{}"
        assert lingering.connections == 2


async def test_a_connection_serves_one_grant_only_and_is_kept_for_it() -> None:
    peers: list[tuple[Any, str]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_http(reader)
            peers.append((writer.get_extra_info("peername"), loads(body)["method"]))
            writer.write(OK)

    async with answering(handle) as server:
        for grant in ("g1", "g2", "g1", "g2"):
            await text(await server.send(post({"id": 1, "method": grant}, grant=grant)))
    assert len({peer for peer, _ in peers}) == 2
    assert len(set(peers)) == 2


async def test_an_idle_connection_is_closed_before_the_server_would_do_it() -> None:
    lost = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(OK)
        await reader.read()
        lost.set()

    async with answering(handle) as server:
        await text(await server.send(post()))
        await lost.wait()
        assert server.tenants == frozenset()


async def test_a_call_is_not_lost_on_a_kept_connection_that_the_server_has_closed() -> None:
    closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(OK)
        writer.write_eof()
        closed.set()

    async with answering(handle) as server:
        for _ in range(3):
            closed.clear()
            assert await text(await server.send(post())) == b"{}"
            await closed.wait()


async def test_an_answer_before_the_request_is_taken_leaves_no_half_request_on_the_connection() -> None:
    lines: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readline()).decode())
        if len(lines) == 1:
            writer.write(OK)
            await asyncio.Event().wait()
        writer.write(OK)

    async with answering(handle) as server:
        large = {"id": 1, "method": "m", "params": {"text": "x" * (16 << 20)}}
        for message in (large, None):
            assert await text(await server.send(post(message))) == b"{}"
    assert lines == ["POST /mcp HTTP/1.1\r\n"] * 2


# -- limits -----------------------------------------------------------------------------------------------------------

BRIEF = 0.2
"""Seconds. The tests below take another request's limit for a clock."""

BEGUN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\n: a\r\n"


async def test_a_server_that_does_not_answer_is_given_up_and_its_connection_closed() -> None:
    lost = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        await reader.read()
        lost.set()

    async with answering(handle, answer_within=BRIEF) as server:
        with pytest.raises(UpstreamInterrupted, match=r"did not answer within 0\.2 s: the request may or may not"):
            await server.send(post())
        await lost.wait()


async def test_a_server_that_stops_in_the_middle_is_given_up() -> None:
    async with answering(each(BEGUN), answer_within=BRIEF) as server:
        reply = await server.send(post())
        assert await anext(reply.chunks) == b": a"
        with pytest.raises(UpstreamInterrupted, match=r"sent nothing more within 0\.2 s"):
            await anext(reply.chunks)


@pytest.mark.parametrize("piece", [b"HTTP/1.1 102 Wait\r\n\r\n", b"x-field: x\r\n"])
async def test_neither_interim_answers_nor_endless_fields_put_the_limit_off(piece: bytes) -> None:
    start = b"" if piece.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(start)
        while not writer.is_closing():
            writer.write(piece)
            await asyncio.sleep(BRIEF / 10)

    async with answering(drip, answer_within=BRIEF) as server:
        with pytest.raises(UpstreamInterrupted, match="did not answer"):
            await server.send(post())


async def test_a_stream_that_drips_comments_is_alive() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(EVENTS)
        for _ in range(8):
            await asyncio.sleep(BRIEF / 4)
            writer.write(b": \n")

    async with answering(drip, answer_within=BRIEF) as server:
        assert await text(await server.send(post())) == b": \n" * 8


LISTEN: dict[str, Any] = {"id": 1, "method": "subscriptions/listen"}


@pytest.mark.parametrize("request_", [get(), post(LISTEN, modern=True)])
async def test_a_stream_that_is_there_to_wait_may_be_silent(request_: UpstreamRequest) -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await read_http(reader)
        writer.write(BEGUN)
        if head[0].startswith("GET") or b"listen" in body:
            await go_on.wait()
            writer.write(b"1\r\n\n\r\n0\r\n\r\n")
        await reader.read()

    async with answering(handle, answer_within=BRIEF) as server:
        waiting = await server.send(request_)
        reading = asyncio.ensure_future(text(waiting))
        with pytest.raises(UpstreamInterrupted):
            await text(await server.send(post()))
        go_on.set()
        assert await reading == b": a\n"


async def test_a_reader_that_takes_its_time_is_not_held_against_the_server() -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await read_http(reader)
        writer.write(BEGUN)
        if b"slow" in body:
            await go_on.wait()
            writer.write(b"1\r\n\n\r\n0\r\n\r\n")
        await reader.read()

    async with answering(handle, answer_within=BRIEF) as server:
        slow = await server.send(post({"id": 1, "method": "slow"}))
        assert await anext(slow.chunks) == b": a"
        for _ in range(2):
            with pytest.raises(UpstreamInterrupted):
                await text(await server.send(post()))
        go_on.set()
        assert await text(slow) == b"\n"


JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (JSON + b"x: ", b"x" * 1000),
        (JSON, b"x" * 1000),
        (JSON, b"x: %s\r\n" % (b"x" * 990)),
        (b"HTTP/1.1 200 ", b"x" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
        (JSON + b"transfer-encoding: chunked\r\n\r\n2;", b"x" * 1000),
        (JSON + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"x: y\r\n" * 200),
        (JSON + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: ", b"x" * 1000),
    ],
)
async def test_what_never_ends_and_brings_nothing_is_not_read_for_long(start: bytes, piece: bytes) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_http(reader)
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with answering(endless) as server:
        with pytest.raises(UpstreamInterrupted, match="fields of more than 65536 bytes"):
            await text(await server.send(post()))
    assert sent < 16 << 20  # the kernel holds some of it


async def test_a_text_that_never_ends_is_cut_after_a_gibibyte() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(JSON + b"\r\n")
        while True:
            writer.write(bytes(1 << 20))
            await writer.drain()

    size = 0

    async def read(reply: UpstreamReply) -> None:
        nonlocal size
        async for chunk in reply.chunks:
            size += len(chunk)

    async with answering(endless) as server:
        reply = await server.send(post())
        with pytest.raises(UpstreamInterrupted, match="more than 1073741824 bytes"):
            await read(reply)
    assert (1 << 30) - (1 << 20) < size <= 1 << 30


def timers_of(port: int) -> list[tuple[int, float]]:
    """The kernel's timer and the seconds that it has left, for connections to `port` (proc(5), /proc/net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    timers = [line[5].split(":") for line in lines if line[2].endswith(f":{port:04X}")]
    return [(int(kind), int(left, 16) / 100) for kind, left in timers]


async def test_a_server_whose_machine_vanished_is_noticed_by_the_kernel() -> None:
    async with raw_http(each(BEGUN)) as url, upstream(url) as server:
        await server.send(get())
        port = int(url.rpartition(":")[2].removesuffix("/mcp"))
        keep_alive = 2
        (kind, left) = next(timer for timer in timers_of(port) if timer[0] == keep_alive)
        assert (kind, left <= 60) == (keep_alive, True)


# -- the end of a grant, and of the broker ----------------------------------------------------------------------------


class Sessions:
    """A server that opens a session on `initialize` and streams on GET and on `stream`."""

    def __init__(self) -> None:
        self.opened = 0
        self.ended: list[str] = []
        self.answer_delete = asyncio.Event()
        self.answer_delete.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await read_http(reader)
            if head[0].startswith("DELETE"):
                self.ended += [line[16:] for line in head if line.lower().startswith("mcp-session-id: ")]
                await self.answer_delete.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif head[0].startswith("GET") or b"stream" in body:
                writer.write(BEGUN)
            elif b"initialize" in body:
                self.opened += 1
                writer.write(OK.replace(b"\r\n\r\n", b"\r\nmcp-session-id: s%d\r\n\r\n" % self.opened))
            elif b"gone" in body:
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            else:
                writer.write(OK)


INITIALIZE: dict[str, Any] = {"id": 1, "method": "initialize"}


async def test_a_grant_that_ended_has_its_sessions_and_open_answers_ended_and_no_other_has() -> None:
    sessions = Sessions()
    async with answering(sessions) as server:
        for grant in ("g1", "g1", "g2"):
            assert (await server.send(post(INITIALIZE, grant=grant))).session == f"s{sessions.opened}"
        replies = [await server.send(request) for request in (get(), post({"id": 2, "method": "stream"}))]
        other = await server.send(post({"id": 2, "method": "stream"}, grant="g2"))
        assert server.tenants == {"g1", "g2"}
        reading = [asyncio.ensure_future(text(reply)) for reply in replies]
        await server.release("g1")
        for reader in reading:
            with pytest.raises(UpstreamInterrupted, match="the grant ended"):
                await reader
        assert sorted(sessions.ended) == ["s1", "s2"]
        assert server.tenants == {"g2"}
        assert await anext(other.chunks) == b": a"


async def test_a_session_that_is_over_is_not_ended_again() -> None:
    sessions = Sessions()
    async with answering(sessions) as server:
        for _ in range(2):
            await text(await server.send(post(INITIALIZE)))
        await server.send(UpstreamRequest("DELETE", "g1", modern=False, session="s1"))
        await server.send(post({"id": 1, "method": "gone"}, session="s2"))
        await server.release("g1")
        await server.release("g1")
    assert sessions.ended == ["s1"]


async def test_no_more_than_the_latest_sessions_of_a_grant_are_remembered() -> None:
    sessions = Sessions()
    async with answering(sessions) as server:
        for _ in range(300):
            await text(await server.send(post(INITIALIZE)))
        await server.release("g1")
    assert sorted(sessions.ended) == sorted(f"s{number}" for number in range(45, 301))


async def test_a_call_that_waits_for_its_answer_when_the_grant_ends_is_told() -> None:
    arrived = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        arrived.set()
        await reader.read()

    async with answering(handle) as server:
        sending = asyncio.ensure_future(server.send(post()))
        await arrived.wait()
        await server.release("g1")
        with pytest.raises(UpstreamInterrupted, match="the grant ended: the request may or may not have run"):
            await sending


async def test_a_server_that_does_not_end_its_sessions_is_not_waited_for() -> None:
    sessions = Sessions()
    sessions.answer_delete.clear()
    async with answering(sessions) as server:
        await text(await server.send(post(INITIALIZE)))
        await server.release("g1")
        assert sessions.ended == ["s1"]
        assert server.tenants == frozenset()


async def test_a_kill_ends_open_answers_at_once() -> None:
    async with answering(Sessions()) as server:
        reply = await server.send(get())
        waiting = asyncio.ensure_future(text(reply))
        server.kill()
        with pytest.raises(UpstreamInterrupted, match="the broker stops"):
            await waiting
        with pytest.raises(UpstreamUnreachable, match="being closed"):
            await server.send(post())


async def test_an_answer_that_was_closed_does_not_look_whole() -> None:
    async with answering(always(OK)) as server:
        reply = await server.send(post())
        await reply.close()
        with pytest.raises(UpstreamInterrupted):
            await text(reply)
