"""The ways a call can take to the fast upstream, each made of real processes on this machine.

One more way to compare with is one more `Way` in `all_ways`; what is started for it ends with the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from tests.bench.answers import TOOL
from tests.bench.processes import BROKER, MODULE, configured, run, start
from tests.postgres import running_postgres
from tests.servers import BOUND, ROOT

_STDIO_UPSTREAM = (*MODULE, "tests.bench.stdio_upstream")

POLICY: dict[str, Any] = {
    "version": "1",
    "default": "deny",
    "tools": {TOOL: {"action": "allow", "limits": [{"counter": "calls", "window": "minute", "max": 1_000_000_000}]}},
}
"""Nothing is refused, and every call takes a slot."""

# One process, as the others are; keeps its connections to the upstream, writes no log.
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream fast {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://fast; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to an upstream: where callers send their calls and whose CPU time that takes, as a job says it."""

    name: str
    target: dict[str, Any]


class Ways:
    """All that is started.

    Attributes:
        brokers: their processes, by the kind of their store.
    """

    def __init__(self, others: Mapping[str, list[Way]]) -> None:
        self._others = others
        self._brokers: dict[tuple[str, str], Way] = {}
        self.brokers: dict[str, int] = {}

    def add_broker(self, store: str, process: int, ways: Mapping[str, Way]) -> None:
        """The ways through one, by the kind of upstream."""
        self.brokers[store] = process
        self._brokers |= {(upstream, store): way for upstream, way in ways.items()}

    def to(self, upstream: str, store: str) -> list[Way]:
        """The ways to a kind of upstream, the direct one first; the last is that through the broker on `store`."""
        return [*self._others[upstream], self._brokers[upstream, store]]


@contextlib.asynccontextmanager
async def all_ways(folder: Path) -> AsyncGenerator[Ways]:
    """Start everything, with its files in `folder`."""
    async with contextlib.AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres(durable=True))
        upstream, url = await start(stack, *MODULE, "tests.bench.http_upstream")
        program = shutil.which("nginx")
        nginx = [await _nginx(stack, program, folder, url)] if program is not None else []
        http = [Way("direct", {"url": url, "charged": upstream.pid}), *nginx]
        ways = Ways({"http": http, "stdio": [Way("direct", {"command": _STDIO_UPSTREAM})]})
        served = postgres.new_database().replace("+psycopg", "")  # as people write it
        for kind, store in (("sqlite", f"sqlite:///{folder / 'broker.db'}"), ("postgresql", served)):
            (folder / kind).mkdir()
            ways.add_broker(kind, *await _broker(stack, folder / kind, url, store))
        yield ways


async def _nginx(stack: contextlib.AsyncExitStack, program: str, folder: Path, url: str) -> Way:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, upstream=urlsplit(url).netloc, port=port))
    process = await run(stack, program, "-p", str(folder), "-c", "nginx.conf")
    await asyncio.wait_for(_listens(port), BOUND)
    return Way("nginx", {"url": f"http://127.0.0.1:{port}/mcp", "charged": process.pid})


async def _listens(port: int) -> None:
    """Return when somebody does: nginx does not say it."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            return writer.close()


async def _broker(
    stack: contextlib.AsyncExitStack, folder: Path, url: str, store: str
) -> tuple[int, Mapping[str, Way]]:
    """A broker as people run it, with a grant for its only agent: its process, and the ways through it."""
    (folder / "policy.json").write_bytes(orjson.dumps(POLICY))
    command = orjson.dumps(_STDIO_UPSTREAM).decode()
    config = configured(
        folder,
        f'[server]\nport = 0\n[store]\nurl = "{store}"\n[upstreams.http]\nurl = "{url}"\npolicy = "policy.json"\n'
        f'[upstreams.stdio]\ncommand = {command}\nenv = {{ PYTHONPATH = "{ROOT}" }}\npolicy = "policy.json"\n',
    )
    process, started = await start(stack, *BROKER, "serve", "--json", "--config", str(config))
    names = ("--upstream", "http", "--upstream", "stdio", "--label", "load", "--owner", "load@example.com")
    grant = (*BROKER, "grant", "create", *names, "--json", "--config", str(config))
    _, made = await start(stack, *grant)
    base, token = orjson.loads(started)["url"], orjson.loads(made)["token"]
    return process.pid, {
        name: Way("broker", {"url": f"{base}/mcp/{name}", "token": token, "charged": process.pid})
        for name in ("http", "stdio")
    }
