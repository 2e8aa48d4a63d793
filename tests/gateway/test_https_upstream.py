"""An upstream behind TLS: whose certificates are believed, and what is told of the others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from broker.errors import UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.upstreams.http import HttpUpstream
from tests.gateway.asking import EVENTS, OK, each, post, text, upstream
from tests.gateway.scene import HOLD_ACT, block, playing
from tests.servers import BOUND, Handler, raw_http, read_http


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """The same, named by the administrator as every program of OpenSSL has it."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


@contextlib.asynccontextmanager
async def serving(
    authority: trustme.CA, handler: Handler, name: str = "localhost", not_after: datetime | None = None
) -> AsyncGenerator[str]:
    """A server with a certificate for `name`."""
    async with raw_http(handler, certified(authority, name, not_after)) as url:
        yield url


def certified(authority: trustme.CA, name: str = "localhost", not_after: datetime | None = None) -> ssl.SSLContext:
    """What a server with a certificate for `name` is started with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert(name, not_after=not_after)
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType] - pyOpenSSL's context has no types
    return context


class Counting:
    """Answers, and counts what it is asked."""

    def __init__(self) -> None:
        self.requests = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_http(reader)
            self.requests += 1
            writer.write(OK)


async def refused(authority: trustme.CA, name: str = "localhost", not_after: datetime | None = None) -> str:
    """What is told of a server that is not believed, which has to hear nothing."""
    counting = Counting()
    async with serving(authority, counting, name, not_after) as url, upstream(url) as server:
        with pytest.raises(UpstreamUnreachable) as refusal:
            await server.send(post())
    assert counting.requests == 0
    return str(refusal.value)


async def test_a_server_with_a_certificate_of_a_trusted_authority_is_asked(trusted: trustme.CA) -> None:
    counting = Counting()
    async with serving(trusted, counting) as url, upstream(url) as server:
        for _ in range(2):
            assert await text(await server.send(post())) == b"{}"
    assert counting.requests == 2


async def test_an_authority_that_nobody_named_is_not_believed(authority: trustme.CA) -> None:
    told = await refused(authority)
    assert told == (
        "The MCP server 'git' could not be reached (its certificate is not trusted: unable to get local issuer "
        "certificate)."
    )


async def test_a_certificate_for_another_name_is_not_believed(trusted: trustme.CA) -> None:
    assert "certificate is not valid for 'localhost'" in await refused(trusted, "another.example")


async def test_a_certificate_that_has_expired_is_not_believed(trusted: trustme.CA) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert "its certificate is not trusted: certificate has expired" in await refused(trusted, not_after=yesterday)


async def test_a_server_that_breaks_off_in_the_middle_of_tls_is_interrupted(trusted: trustme.CA) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(OK[:-1])

    async with serving(trusted, handle) as url, upstream(url) as server:
        reply = await server.send(post())
        with pytest.raises(UpstreamInterrupted, match="in the middle of its answer"):
            await text(reply)


async def test_a_server_that_never_ends_its_handshake_is_unreachable() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        await asyncio.Event().wait()

    async with raw_http(handle) as url:
        server = HttpUpstream("git", url.replace("http:", "https:"))
        async with asyncio.timeout(BOUND):
            with pytest.raises(UpstreamUnreachable, match="no connection within 10 s"):
                await server.send(post())


class Receiving(asyncio.Protocol):
    """Keeps what comes on a connection."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def test_a_grant_that_ends_while_its_call_is_being_connected_sends_nothing_more(trusted: trustme.CA) -> None:
    loop, receiving = asyncio.get_running_loop(), Receiving()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with upstream(f"https://localhost:{listener.getsockname()[1]}") as server:
            sending = asyncio.ensure_future(server.send(post()))
            connected, _ = await loop.sock_accept(listener)
            assert server.tenants == {"g1"}
            await server.release("g1")
            await loop.connect_accepted_socket(lambda: receiving, connected, ssl=certified(trusted))
            with pytest.raises(UpstreamUnreachable, match="was not asked: the grant ended"):
                await sending
            await receiving.ended.wait()
            assert receiving.data == b""


async def test_a_long_answer_comes_whole_through_tls(trusted: trustme.CA) -> None:
    size, piece = 32 << 20, b"x" * (1 << 20)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(EVENTS)
        for _ in range(size // len(piece)):
            writer.write(piece)
            await writer.drain()

    async with serving(trusted, handle) as url, upstream(url) as server:
        reply = await server.send(post())
        assert sum([len(chunk) async for chunk in reply.chunks]) == size


async def test_an_agent_is_told_what_is_wrong_with_a_certificate_and_that_nothing_ran(
    authority: trustme.CA, tmp_path: Path
) -> None:
    async with (
        serving(authority, each(OK)) as url,
        playing(tmp_path, {"one": {"url": url, "policy": HOLD_ACT}}) as scene,
    ):
        answer = await (await (await scene.agent()).call("one", "look")).message()
    assert block(answer)["status"] == "unavailable"
    words = answer["result"]["content"][0]["text"]
    assert "its certificate is not trusted" in words
    assert "Nothing ran" in words
