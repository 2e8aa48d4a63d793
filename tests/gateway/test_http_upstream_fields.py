"""An upstream behind a URL: fields and addresses that an attacker would choose."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.errors import SettingsError
from broker.gateway.upstreams.http import HttpUpstream
from tests.gateway.asking import OK, always, answering, asked, post, text, upstream
from tests.servers import raw_http, read_http

ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


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
