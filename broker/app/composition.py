"""The whole broker: which part gets which value, and the order of start and stop.

What belongs here: what holds the parts together. What does not: making one of them (`parts`), serving (`serving`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from broker.app import parts, readiness
from broker.app.pages import Pages
from broker.app.serving import Router, close, serving
from broker.approvals.feed import Feed
from broker.approvals.notices import Channel
from broker.approvals.outbox import Outbox
from broker.approvals.policies import Policies
from broker.approvals.processes import Process
from broker.approvals.service import Approvals
from broker.approvals.sweeps import leave, recover, sweep
from broker.approvals.witness import Witness
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock, SystemClock
from broker.domain.origins import Origins
from broker.errors import StoreError
from broker.front import Place, allow_many_connections, listening
from broker.gateway.endpoint import Endpoint
from broker.gateway.errands import Errands
from broker.gateway.gate import Gate
from broker.gateway.grants import Grants
from broker.gateway.holds import Holds
from broker.gateway.record import Record
from broker.policy.watch import InForce, Watched
from broker.settings import Settings
from broker.store.chain_watch import ChainWatch
from broker.store.engine import is_sqlite, serve_lock
from broker.store.search_index import keep_indexed
from broker.store.writer import Store
from broker.ticks import Tick, ticking

if TYPE_CHECKING:
    from broker.app.slack import Slack
    from broker.store.presence import Presence
    from broker.web.oidc.provider import Provider

log = logging.getLogger(__name__)

SWEEP_EVERY = 1.0
"""Seconds between looks for approvals that are overdue."""

RELEASE_EVERY = 0.5
"""Seconds between looks for grants that ended while they had something open: it ends within a second."""

WITNESS_EVERY = 1.0
"""Seconds between looks whether a day is over."""

VERIFY_EVERY = 0.5
"""Seconds between looks at the chain."""

INDEX_EVERY = 1.0
"""Seconds between looks for rows of the record that are to be indexed."""


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
    _asked: bool = field(default=False, init=False)  # by a signal

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
        if self._asked:
            self.endpoint.kill()
            os._exit(128 + number)
        self._asked = True
        self.stopping.set()


@asynccontextmanager
async def running(
    settings: Settings, clock: Clock | None = None, channels: Sequence[Channel] = (), place: Place | None = None
) -> AsyncGenerator[Broker]:
    """Start a broker and stop it at the end of the context.

    Args:
        channels: where people are told of held calls beside the browser.
        place: of this process among those that share a listener; without one it listens by itself.

    Raises:
        SettingsError, PolicyError: something configured is wrong.
        StoreError: the store cannot be opened, or another server uses it.
    """
    own_clock = SystemClock()
    clock = clock or own_clock
    allow_many_connections()
    async with AsyncExitStack() as stack:
        where = settings.server
        listener = stack.enter_context(listening(where.host, where.port) if place is None else place.listener)
        url = parts.public_url(settings, listener)
        card = partial(parts.card, url)
        files = {name: Watched(path) for name in settings.upstreams if (path := settings.policy_path(name)) is not None}
        policies = {name: parts.in_force(settings, name, clock) for name in settings.upstreams}
        keyring = Keyring(settings.secrets())
        stack.enter_context(serve_lock(settings.store_url()))  # before anything is migrated
        store = Store(settings.store_url(), clock)
        stack.callback(store.close)
        feed = Feed(store)
        presence = _presence(store, feed, own_clock)
        if presence is not None:
            await presence.begin()
            await stack.enter_async_context(_task(presence.run()))
        slack = _slack(settings, store, clock)
        for each in slack:
            await stack.enter_async_context(each)
        channels = (*channels, *(each.channel for each in slack))
        rules = parts.rules(settings, channels)
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
        outboxes = [Outbox(channel, store, feed, approvals.process.id, card) for channel in channels]
        for outbox in outboxes:
            await outbox.begin()
            await stack.enter_async_context(_task(outbox.run()))
        errands = Errands(approvals, feed)
        gates: dict[str, Gate] = {}
        for name in settings.upstreams:
            holds = Holds(approvals, feed, clock, card, parts.patience(settings, name))
            gates[name] = Gate(parts.upstream(settings, name), policies[name], approvals, record, holds, errands)
        endpoint = Endpoint(gates, Grants(store, clock), keyring, Origins(url))
        await stack.enter_async_context(_task(errands.run()))
        inbounds = [each.inbound(approvals, card) for each in slack]
        witnessing = [_witness(store)] if channels else []
        chain = ChainWatch(store)
        ticks = (*_ticks(approvals, endpoint, store, chain), *witnessing, *(each.tick for each in slack))
        await stack.enter_async_context(ticking(*ticks))
        fare = partial(readiness.channels, outboxes, {each.channel.name: each.trouble for each in slack})
        provider = _provider(settings, clock)
        if provider is not None:
            await stack.enter_async_context(provider)

        def web() -> ASGIApp:
            from broker.web import create_web  # noqa: PLC0415 - a start without an open page does without FastAPI

            return create_web(
                store=store,
                approvals=approvals,
                feed=feed,
                clock=clock,
                keyring=keyring,
                public_url=url,
                in_force=policies,
                ready=partial(readiness.ready, store, presence, policies, fare, chain),
                channels=fare,
                chain=chain,
                provider=provider,
            )

        limit = settings.server.stop_within.total_seconds()
        closing = partial(close, endpoint, inbounds, feed, outboxes, limit)
        router = Router(endpoint, Pages(web), {path: app for each in slack for path, app in each.paths.items()})
        await stack.enter_async_context(serving(router, listener, place, limit, closing))
        for inbound in inbounds:
            await stack.enter_async_context(_task(inbound.run()))
        yield Broker(url, clock, store, approvals, feed, policies, endpoint)


def _presence(store: Store, feed: Feed, clock: SystemClock) -> Presence | None:
    if is_sqlite(store.engine):
        return None
    from broker.store.presence import Presence  # noqa: PLC0415 - who has no PostgreSQL starts without its library

    return Presence(store.engine, feed.nudge, clock)


def _slack(settings: Settings, store: Store, clock: Clock) -> list[Slack]:
    if settings.slack is None:
        return []
    from broker.app.slack import Slack  # noqa: PLC0415 - who has no Slack starts without its libraries

    return [Slack(settings, settings.slack, store, clock)]


def _provider(settings: Settings, clock: Clock) -> Provider | None:
    if settings.oidc is None:
        return None
    from broker.app.oidc import provider  # noqa: PLC0415 - who has none starts without its libraries

    return provider(settings, settings.oidc, clock)


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


def _ticks(approvals: Approvals, endpoint: Endpoint, store: Store, chain: ChainWatch) -> tuple[Tick, ...]:
    return (
        Tick("sweep", SWEEP_EVERY, partial(sweep, approvals), "Overdue approvals stay open until it can."),
        Tick("release", RELEASE_EVERY, endpoint.release_ended, "What ended grants have open stays so until it can."),
        Tick("verify", VERIFY_EVERY, chain.look, "The record is not verified until it can."),
        Tick("index", INDEX_EVERY, partial(keep_indexed, store), "Searches of the record are slower until it can."),
    )


def _witness(store: Store) -> Tick:
    return Tick("witness", WITNESS_EVERY, Witness(store).look, "The record is told to nobody outside until it can.")
