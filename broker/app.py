"""The composition root: makes every part from the settings, runs them, and stops them in order.

What belongs here: which part gets which value, and the order of start and stop. What does not: anything a part does.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.approvals.feed import Feed
from broker.approvals.service import Approvals, Rules
from broker.approvals.sweeps import recover, sweep
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock, SystemClock
from broker.domain.origins import Origins
from broker.errors import SettingsError, StoreError
from broker.gateway.endpoint import PATH, Endpoint
from broker.gateway.gate import Gate
from broker.gateway.grants import Grants
from broker.gateway.holds import Holds
from broker.gateway.record import Record
from broker.gateway.upstreams import Upstream
from broker.gateway.upstreams.http import HttpUpstream
from broker.gateway.upstreams.stdio import StdioUpstream
from broker.policy.decide import Policy
from broker.policy.load import HOLD_EVERYTHING, load_policy
from broker.settings import Settings
from broker.store import audit
from broker.store.audit import AuditFilter
from broker.store.engine import serve_lock
from broker.store.writer import Store
from broker.web import create_web

log = logging.getLogger(__name__)

SWEEP_EVERY = 1.0
"""Seconds between looks for approvals that are overdue."""

VANISHED_AFTER_MS = 30_000
"""How long bytes may stay unacknowledged by a client's machine. Held calls get some every ten seconds."""

GRACE = 5
"""Seconds that open streams get to end when the broker stops."""


@dataclass(slots=True)
class Broker:
    """A running broker."""

    url: str
    clock: Clock
    store: Store
    approvals: Approvals
    feed: Feed
    policies: dict[str, Policy]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_stopped(self) -> None:
        """Return when somebody asks the process to end: SIGTERM, SIGINT, or `stopping` is set."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        try:
            await self.stopping.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


@asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncGenerator[Broker]:
    """Start a broker and stop it at the end of the context.

    Raises:
        SettingsError, PolicyError: something configured is wrong.
        StoreError: the store cannot be opened, or another server uses it.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listening(settings))
        url = _public_url(settings, listener)
        policies = {name: _policy(settings, name) for name in settings.upstreams}
        keyring = Keyring(settings.secrets())
        stack.enter_context(serve_lock(settings.store_url()))  # before anything is migrated
        store = Store(settings.store_url(), clock)
        stack.callback(store.close)
        feed = Feed(store)
        terms = settings.approvals
        rules = Rules(
            timeout=terms.timeout,
            execute_within=terms.execute_within,
            keep_results=terms.results == "capped",
            max_pending=terms.max_pending,
            max_per_hour=terms.max_per_hour,
        )
        approvals = Approvals(store, clock, keyring, feed, rules)
        await recover(approvals)
        await stack.enter_async_context(_task(feed.run()))
        stack.enter_context(_sweeping(approvals))
        record = Record(store, keyring, keep_results=rules.keep_results)
        stack.push_async_callback(record.drain)
        gates: dict[str, Gate] = {}
        for name in settings.upstreams:
            holds = Holds(approvals, feed, clock, lambda approval_id: f"{url}/approvals/{approval_id}")
            gates[name] = Gate(_upstream(settings, name), policies[name], approvals, record, holds)
        endpoint = Endpoint(gates, Grants(store, clock), keyring, Origins(url))
        web = create_web(
            store=store,
            approvals=approvals,
            feed=feed,
            clock=clock,
            keyring=keyring,
            public_url=url,
            ready=partial(_ready, store, policies),
        )
        await stack.enter_async_context(_serving(_Router(endpoint, web), listener))
        stack.callback(feed.dismiss)
        stack.push_async_callback(_close_gates, gates)
        yield Broker(url, clock, store, approvals, feed, policies)


class _Router:
    """Sends `/mcp/…` to the gateway and everything else to the pages and the API."""

    def __init__(self, gateway: ASGIApp, web: ASGIApp) -> None:
        self._gateway = gateway
        self._web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_call = scope["type"] == "http" and scope["path"].startswith(PATH)
        await (self._gateway if is_call else self._web)(scope, receive, send)


# -- parts from settings ----------------------------------------------------------------------------------------------


def _policy(settings: Settings, name: str) -> Policy:
    path = settings.policy_path(name)
    return load_policy(path) if path is not None else HOLD_EVERYTHING


def _upstream(settings: Settings, name: str) -> Upstream:
    upstream = settings.upstreams[name]
    if upstream.url is not None:
        return HttpUpstream(name, upstream.url, settings.headers(name))
    return StdioUpstream(name, upstream.command or [], upstream.env, settings.folder)


def _public_url(settings: Settings, listener: socket.socket) -> str:
    if settings.server.public_url is not None:
        return settings.server.public_url
    host, port = settings.server.host, listener.getsockname()[1]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is refused
        raise SettingsError(f"server.public_url has to be set when server.host is {host}: links need a name.")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _ready(store: Store, policies: dict[str, Policy]) -> dict[str, Any]:
    try:
        await store.write(lambda tx: audit.page(tx.session, AuditFilter(), limit=1))
        state = {"ok": True, "seq": (await store.read(audit.head)).seq}
    except StoreError as error:
        state = {"ok": False, "error": str(error)}
    status = "ok" if state["ok"] else "failing"
    return {"status": status, "store": state, "policies": {name: one.source for name, one in policies.items()}}


# -- running parts ----------------------------------------------------------------------------------------------------


@contextmanager
def _listening(settings: Settings) -> Generator[socket.socket]:
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named a TCP socket, or asyncio leaves Nagle's algorithm on, and an answer in two writes waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a caller whose machine vanished is gone too, not waiting
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER_MS)
        try:
            listener.bind((host, port))
        except OSError as error:
            why = error.strerror or str(error)
            raise SettingsError(f"Cannot listen on {host}:{port}: {why}. Set server.host or server.port.") from error
        listener.listen(1024)
        yield listener
    finally:
        listener.close()


@asynccontextmanager
async def _task(work: Any) -> AsyncGenerator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def _sweeping(approvals: Approvals) -> Generator[None]:
    async def tidy() -> None:
        try:
            await sweep(approvals)
        except StoreError as error:
            log.warning("%s Overdue approvals stay open until it can.", error)

    scheduler = AsyncIOScheduler()
    scheduler.add_job(  # pyright: ignore[reportUnknownMemberType] - APScheduler 3 has no types
        tidy, "interval", seconds=SWEEP_EVERY, max_instances=1, coalesce=True, misfire_grace_time=None
    )
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: whoever runs the broker decides when it stops."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def _serving(app: ASGIApp, listener: socket.socket) -> AsyncGenerator[None]:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


async def _close_gates(gates: dict[str, Gate]) -> None:
    await asyncio.gather(*(gate.close() for gate in gates.values()))
