"""Signals to a real server in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.cli.conftest import Shell
from tests.crashes.process import serving
from tests.gateway.scene import modern, modern_headers
from tests.servers import BOUND, ROOT

ALLOW = '{"version": "1", "default": "allow"}'


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(BOUND):
        while alive(pid):  # noqa: ASYNC110 - nobody tells when a process is gone
            await asyncio.sleep(0.02)


async def ask(http: aiohttp.ClientSession, url: str, token: str, method: str, **params: Any) -> Any:
    message = modern(method, params)
    fields = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    async with http.post(f"{url}/mcp/raw", json=message, headers=fields | modern_headers(message)) as answer:
        return await answer.json()


async def test_a_second_signal_ends_it_at_once_with_servers_that_would_not_go(shell: Shell) -> None:
    (shell.folder / "allow.json").write_text(ALLOW)
    (shell.folder / "broker.toml").write_text(
        "[server]\nport = 0\nstop_within = '1h'\n[upstreams.raw]\npolicy = 'allow.json'\n"
        f"command = [{sys.executable!r}, '-m', 'tests.servers.raw_server', 'stubborn']\n"
        f"env = {{ PYTHONPATH = {str(ROOT)!r} }}\n"
    )
    async with serving(shell.folder) as process, aiohttp.ClientSession() as http:
        create = ("grant", "create", "--upstream", "raw", "--label", "x", "--owner", "o@x.org")
        grant = await asyncio.to_thread(shell.json, *create)
        spawned = (await ask(http, process.url, grant["token"], "test/spawn"))["result"]
        running = asyncio.ensure_future(ask(http, process.url, grant["token"], "test/hold", name="x"))
        seen: list[Any] = []
        while not any(message["method"] == "test/hold" for message in seen):
            seen = (await ask(http, process.url, grant["token"], "test/seen"))["result"]["seen"]
        process.stop()
        await refused(http, process.url)
        assert alive(process.pid)
        assert not running.done()
        process.stop()
        assert await process.ended() == 128 + signal.SIGTERM
        await asyncio.wait([running])
        assert running.exception() is not None
        await gone(spawned["pid"])
        await gone(spawned["child"])


async def refused(http: aiohttp.ClientSession, url: str) -> None:
    """Return when the server takes no new connections."""
    async with asyncio.timeout(BOUND):
        while True:
            try:
                async with http.get(f"{url}/healthz", headers={"Connection": "close"}):
                    pass
            except aiohttp.ClientConnectionError:
                return
