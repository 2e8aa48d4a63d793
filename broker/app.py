"""The composition root: makes every part from the settings, runs them, and stops them in order.

What belongs here: which part gets which value, and the order of start and stop. What does not: anything a part does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.approvals.feed import Feed
from broker.approvals.ledger import Rules
from broker.approvals.notices import Channel
from broker.approvals.outbox import Outbox
from broker.approvals.policies import Policies
from broker.approvals.processes import Process
from broker.approvals.service import Approvals
from broker.approvals.sweeps import leave, recover, sweep
from broker.domain.audit import timestamp
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock, SystemClock
from broker.domain.origins import Origins
from broker.errors import SettingsError, StoreError
from broker.front import Connection, Server, allow_many_connections
from broker.gateway.endpoint import PATH, Endpoint
from broker.gateway.errands import Errands
from broker.gateway.gate import Gate
from broker.gateway.grants import Grants
from broker.gateway.holds import Holds
from broker.gateway.patience import CLIENTS, Client, Patience
from broker.gateway.record import Record
from broker.gateway.upstreams import Upstream
from broker.gateway.upstreams.http import HttpUpstream
from broker.gateway.upstreams.stdio import StdioUpstream
from broker.policy.load import HOLD_EVERYTHING, load_policy
from broker.policy.watch import InForce, Watched
from broker.settings import Settings
from broker.store import audit
from broker.store.audit import AuditFilter
from broker.store.engine import is_sqlite, serve_lock
from broker.store.presence import Presence
from broker.store.writer import Store
from broker.ticks import Tick, ticking
from broker.web import create_web
from broker.web.policies import present_of

log = logging.getLogger(__name__)

SWEEP_EVERY = 1.0
"""Seconds between looks for approvals that are overdue."""

RELEASE_EVERY = 0.5
"""Seconds between looks for grants that ended while they had something open: it ends within a second."""

VANISHED_AFTER_MS = 30_000
"""How long bytes may stay unacknowledged by a client's machine. Held calls get some every ten seconds."""

FOR_WHAT_RUNS, FOR_UPSTREAMS, FOR_CLIENTS = 0.6, 0.85, 0.9
"""The parts of `server.stop_within` until calls may still end, then their upstreams, and clients read what they are
told. What is left is for what they leave behind, and for the store."""

FOR_MESSAGES = 0.05
"""The part of it that a message which is being posted has to end, while clients read."""


@dataclass(slots=True)
class Broker:
    """A running broker."""

    url: str
    clock: Clock
    store: Store
    approvals: Approvals
    feed: Feed
    policies: dict[str, InForce]
    endpoint: Endpoint
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_stopped(self) -> None:
        """Return when somebody asks the process to end: SIGTERM, SIGINT, or `stopping` is set.

        From then on a second signal ends the process at once, with its MCP servers: what is committed stays, and what
        ran is interrupted at the next start, as after a crash.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        await self.stopping.wait()

    def _signalled(self, number: int) -> None:
        if self.stopping.is_set():
            self.endpoint.kill()
            os._exit(128 + number)
        self.stopping.set()


@asynccontextmanager
async def running(
    settings: Settings, clock: Clock | None = None, channels: Sequence[Channel] = ()
) -> AsyncGenerator[Broker]:
    """Start a broker and stop it at the end of the context.

    Args:
        channels: where people are told of held calls beside the browser.

    Raises:
        SettingsError, PolicyError: something configured is wrong.
        StoreError: the store cannot be opened, or another server uses it.
    """
    own_clock = SystemClock()
    clock = clock or own_clock
    allow_many_connections()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listening(settings))
        url = _public_url(settings, listener)
        files = {name: Watched(path) for name in settings.upstreams if (path := settings.policy_path(name)) is not None}
        policies = {name: _in_force(settings, name, clock) for name in settings.upstreams}
        keyring = Keyring(settings.secrets())
        stack.enter_context(serve_lock(settings.store_url()))  # before anything is migrated
        store = Store(settings.store_url(), clock)
        stack.callback(store.close)
        feed = Feed(store)
        presence = None if is_sqlite(store.engine) else Presence(store.engine, feed.nudge, own_clock)
        if presence is not None:
            await presence.begin()
            await stack.enter_async_context(_task(presence.run()))
        terms = settings.approvals
        rules = Rules(
            timeout=terms.timeout,
            execute_within=terms.execute_within,
            retry_grace=terms.retry_grace,
            reject_memory=terms.reject_memory,
            allow_self=terms.allow_self,
            keep_results=terms.results == "capped",
            max_pending=terms.max_pending,
            max_per_hour=terms.max_per_hour,
            channels=frozenset({"web", "api", *(channel.name for channel in channels)}),
        )
        approvals = Approvals(store, clock, keyring, feed, rules, channels, Process(keyring, presence))
        await recover(approvals, alone=presence is None)
        stack.push_async_callback(_leave, approvals)
        await stack.enter_async_context(_task(feed.run()))
        follower = Policies(approvals, store)
        for name, in_force in policies.items():
            await follower.begin(in_force)
            if name in files:
                await stack.enter_async_context(_task(follower.follow(in_force, files[name])))
        record = Record(store, keyring, keep_results=rules.keep_results)
        stack.push_async_callback(record.drain)
        outboxes = [Outbox(channel, store, feed, approvals.process.id, partial(_card, url)) for channel in channels]
        for outbox in outboxes:
            await outbox.begin()
            await stack.enter_async_context(_task(outbox.run()))
        errands = Errands(approvals, feed)
        gates: dict[str, Gate] = {}
        for name in settings.upstreams:
            holds = Holds(approvals, feed, clock, partial(_card, url), _patience(settings, name))
            gates[name] = Gate(_upstream(settings, name), policies[name], approvals, record, holds, errands)
        endpoint = Endpoint(gates, Grants(store, clock), keyring, Origins(url))
        await stack.enter_async_context(_task(errands.run()))
        await stack.enter_async_context(ticking(*_ticks(approvals, endpoint)))
        web = create_web(
            store=store,
            approvals=approvals,
            feed=feed,
            clock=clock,
            keyring=keyring,
            public_url=url,
            in_force=policies,
            ready=partial(_ready, store, presence, policies, outboxes),
        )
        limit = settings.server.stop_within.total_seconds()
        closing = partial(_close, endpoint, feed, outboxes, limit)
        await stack.enter_async_context(_serving(_Router(endpoint, web), listener, limit, closing))
        yield Broker(url, clock, store, approvals, feed, policies, endpoint)


class _Router:
    """Sends `/mcp/…` to the gateway and everything else to the pages and the API."""

    def __init__(self, gateway: ASGIApp, web: ASGIApp) -> None:
        self._gateway = gateway
        self._web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_call = scope["type"] == "http" and scope["path"].startswith(PATH)
        await (self._gateway if is_call else self._web)(scope, receive, send)


# -- parts from settings ----------------------------------------------------------------------------------------------


def _in_force(settings: Settings, name: str, clock: Clock) -> InForce:
    path = settings.policy_path(name)
    return InForce(name, load_policy(path) if path is not None else HOLD_EVERYTHING, clock.now())


def _upstream(settings: Settings, name: str) -> Upstream:
    upstream = settings.upstreams[name]
    answer_within = upstream.answer_within.total_seconds()
    if upstream.url is not None:
        return HttpUpstream(name, upstream.url, settings.headers(name), answer_within=answer_within)
    command = upstream.command or []
    idle = upstream.idle.total_seconds()
    return StdioUpstream(name, command, upstream.env, settings.folder, answer_within=answer_within, idle=idle)


def _patience(settings: Settings, name: str) -> Patience:
    said = {client: Client(terms.gives_up, terms.progress_resets) for client, terms in settings.clients.items()}
    return Patience(settings.approvals.patience, settings.upstreams[name].patience, {**CLIENTS, **said})


def _public_url(settings: Settings, listener: socket.socket) -> str:
    if settings.server.public_url is not None:
        return settings.server.public_url
    host, port = settings.server.host, listener.getsockname()[1]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is refused
        raise SettingsError(f"server.public_url has to be set when server.host is {host}: links need a name.")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _card(url: str, approval_id: str) -> str:
    return f"{url}/approvals/{approval_id}"


async def _ready(
    store: Store, presence: Presence | None, policies: dict[str, InForce], outboxes: Sequence[Outbox]
) -> dict[str, Any]:
    try:
        await store.write(lambda tx: audit.page(tx.session, AuditFilter(), limit=1))
        state = {"ok": True, "seq": (await store.read(audit.head)).seq}
        channels = {outbox.channel.name: await _channel(outbox) for outbox in outboxes}
    except StoreError as error:
        state, channels = {"ok": False, "error": str(error)}, {}
    deaf = presence.trouble if presence is not None else None
    refused = any(in_force.trouble is not None for in_force in policies.values())
    troubled = refused or deaf is not None or not all(channel["ok"] for channel in channels.values())
    return {
        "status": "failing" if not state["ok"] else "degraded" if troubled else "ok",
        "store": state if deaf is None else {**state, "trouble": deaf},
        "policies": {name: present_of(one) for name, one in policies.items()},
        "channels": channels,
    }


async def _channel(outbox: Outbox) -> dict[str, Any]:
    if (trouble := await outbox.trouble()) is None:
        return {"ok": True}
    return {"ok": False, "error": trouble.sentence, "since": timestamp(trouble.since)}


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


async def _leave(approvals: Approvals) -> None:
    try:
        await leave(approvals)
    except StoreError as error:
        log.warning("%s Other servers find out by themselves that this one ended.", error)


@asynccontextmanager
async def _task(work: Any) -> AsyncGenerator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _ticks(approvals: Approvals, endpoint: Endpoint) -> tuple[Tick, ...]:
    return (
        Tick("sweep", SWEEP_EVERY, partial(sweep, approvals), "Overdue approvals stay open until it can."),
        Tick("release", RELEASE_EVERY, endpoint.release_ended, "What ended grants have open stays so until it can."),
    )


@asynccontextmanager
async def _serving(
    app: ASGIApp, listener: socket.socket, limit: float, closing: Callable[[], Awaitable[None]]
) -> AsyncGenerator[None]:
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on where a request came from
    )
    server = Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        deadline = asyncio.get_running_loop().time() + limit
        server.should_exit = True  # takes no new connection from here on
        await closing()
        await server.end(serving, deadline - limit * (1 - FOR_CLIENTS), deadline)


async def _close(endpoint: Endpoint, feed: Feed, outboxes: Sequence[Outbox], limit: float) -> None:
    try:
        async with asyncio.timeout(limit * FOR_UPSTREAMS):
            await endpoint.close(limit * FOR_WHAT_RUNS)
    except TimeoutError:
        log.warning("The broker's MCP servers did not end in time: they are ended by force.")
        endpoint.kill()
    feed.dismiss()
    await asyncio.gather(*(outbox.end(limit * FOR_MESSAGES) for outbox in outboxes))
