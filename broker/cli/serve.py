"""`broker serve`: the gateway, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import sys
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from broker import stop_points
from broker.cli import output, store
from broker.cli.arguments import AsJson, Config
from broker.cli.lasting import lasting
from broker.cli.people import LINK_LIFETIME
from broker.domain.people import Role
from broker.errors import SettingsError

if TYPE_CHECKING:
    from broker.app import Broker
    from broker.front import Place
    from broker.settings import Settings

T = TypeVar("T")

FIRST_PERSON = "admin@localhost"
"""Who is added while nobody exists, so that a fresh start can be used."""

GRACE = 5.0
"""Seconds after `server.stop_within` until a worker that has not ended is killed."""

Many = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="How many processes serve, on PostgreSQL; else server.workers of the settings, or 1.",
    ),
]


def serve(config: Config = None, as_json: AsJson = False, workers: Many = None) -> None:
    """Run the broker until it is stopped (Ctrl-C or SIGTERM)."""
    with lasting():
        settings = store.settings(config)
    many = _many(settings, workers)
    if many > 1:
        raise typer.Exit(_run(_lead(settings, many, as_json=as_json)))
    _run(_serve(settings, None, as_json=as_json))


def work() -> None:
    """Be one of several workers: with the settings and the place that are on standard input, until that ends."""
    with lasting():
        settings, place = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the process that started this one
    _run(_serve(settings, place, as_json=True))


def _run(work: Coroutine[Any, Any, T]) -> T:
    import uvloop  # noqa: PLC0415 - slow to import

    done = uvloop.run(work)
    gc.freeze()  # all is closed: looking through a hundred thousand objects once more would take most of a second
    return done


def _many(settings: Settings, given: int | None) -> int:
    many = given if given is not None else settings.server.workers
    if many > 1 and settings.store_url().startswith("sqlite:"):
        raise SettingsError(
            f"A SQLite file is served by one process: {many} workers cannot share it, and none was started. Set "
            "store.url to a PostgreSQL database, or server.workers (or --workers) to 1."
        )
    return many


async def _lead(settings: Settings, many: int, *, as_json: bool) -> int:
    from broker.cli.workers import Workers  # noqa: PLC0415 - most have one
    from broker.front import listening  # noqa: PLC0415 - uvicorn is slow to import

    _log()
    within = settings.server.stop_within.total_seconds()
    with listening(settings.server.host, settings.server.port) as listener:
        workers = Workers(settings, listener, many)
        started = await workers.start()
        if started is not None:
            _tell(started, as_json=as_json)
        await workers.until_stopped()
    if started is not None:
        _tell_stop(within, as_json=as_json)
    return await workers.ended(within + GRACE)


async def _serve(settings: Settings, place: Place | None, *, as_json: bool) -> None:
    async with AsyncExitStack() as stack:
        with lasting():
            from broker.app import running  # noqa: PLC0415 - everything is imported there

            _log()
            stop_points.arm()
            broker = await stack.enter_async_context(running(settings, place=place))
        stopped = asyncio.create_task(broker.until_stopped())  # hears signals before anybody is told that it runs
        if place is not None:
            _stops_with_its_leader(broker)
        _tell(_started(broker, settings, await _first_link(broker)), as_json=as_json)
        await stopped
        _tell_stop(settings.server.stop_within.total_seconds(), as_json=as_json)


def _stops_with_its_leader(broker: Broker) -> None:
    loop, ours = asyncio.get_running_loop(), sys.stdin.fileno()

    def ended() -> None:
        loop.remove_reader(ours)
        broker.stopping.set()

    loop.add_reader(ours, ended)


def _log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("broker.upstream").setLevel(logging.INFO)  # what servers write to their stderr
    logging.getLogger("broker.approvals.policies").setLevel(logging.INFO)  # a policy that changed is told
    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # ticks tell of their trouble themselves


async def _first_link(broker: Broker) -> str | None:
    """A sign-in link for a first administrator, while no person exists."""
    from broker.store import people  # noqa: PLC0415

    def work(tx: Any) -> str | None:
        if people.everyone(tx.session):
            return None
        person = people.save(tx, store.actor(), FIRST_PERSON, frozenset({Role.ADMIN}), frozenset())
        kind = people.CredentialKind.LINK
        return people.issue(tx, store.actor(), kind, person.email, lifetime=LINK_LIFETIME).secret

    secret = await broker.store.write(work, durable=True)
    return f"{broker.url}/sign-in?token={secret}" if secret else None


def _started(broker: Broker, settings: Settings, link: str | None) -> dict[str, Any]:
    return {
        "url": broker.url,
        "upstreams": {name: _policy(settings, name) for name in settings.upstreams},
        "store": broker.store.engine.url.render_as_string(hide_password=True),
        "sign_in": link,
    }


def _tell(started: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.say_json(started)
        return
    output.say(f"The broker is at {started['url']}")
    for name, policy in started["upstreams"].items():
        judged = f"policy {policy}" if policy else "WARNING: no policy, so every call is held for a person"
        output.say(f"  {started['url']}/mcp/{name}  {judged}")
    if not started["upstreams"]:
        output.say("  no upstream yet: add an [upstreams.NAME] table to broker.toml and start again")
    output.say(f"The record is in {started['store']}")
    if started["sign_in"] is not None:
        output.say(f"Nobody was here yet, so {FIRST_PERSON} was added. Sign in once, within 15 minutes:")
        output.say(f"  {started['sign_in']}")
    output.say("Ctrl-C stops it.")


def _tell_stop(within: float, *, as_json: bool) -> None:
    if not as_json:
        output.say(f"Stopping, within {within:g} s. Ctrl-C again stops at once.")


def _policy(settings: Settings, name: str) -> str | None:
    path = settings.policy_path(name)
    return str(path) if path is not None else None
