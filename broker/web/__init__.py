"""The browser and the HTTP API. Templates and static files lie beside the code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from broker.approvals.feed import Feed
from broker.approvals.service import Approvals
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock
from broker.policy.watch import InForce
from broker.store.chain_watch import ChainWatch
from broker.store.writer import Store
from broker.web import api, audit_pages, batches, card, events, export, policies, queue, sessions, sign_in, sign_on
from broker.web.attempts import Attempts
from broker.web.board import Board
from broker.web.boundary import Boundary
from broker.web.parts import Parts
from broker.web.problems import add_problems
from broker.web.rollcall import RollCall

if TYPE_CHECKING:
    from broker.web.oidc.provider import Provider


def create_web(
    *,
    store: Store,
    approvals: Approvals,
    feed: Feed,
    clock: Clock,
    keyring: Keyring,
    public_url: str,
    in_force: Mapping[str, InForce],
    ready: Callable[[], Awaitable[dict[str, Any]]],
    channels: Callable[[], Awaitable[Mapping[str, Mapping[str, Any]]]],
    chain: ChainWatch,
    provider: Provider | None = None,
) -> FastAPI:
    """The ASGI application of pages and API.

    Args:
        public_url: where browsers reach it; its host is the allowed Host and Origin.
        in_force: the policies in force, by upstream.
        chain: knows how the record was found when it was last verified.
        ready: tells whether the broker can work; its `status` is `ok` when it can, `degraded` when not all is well.
        channels: tells how the ways to people outside fare, by name: `ok`, and a sentence as `error` where not.
        provider: who signs people in beside one-time links, if somebody does.
    """
    app = FastAPI(title="Approval broker", version="1", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.parts = Parts(
        store=store,
        approvals=approvals,
        feed=feed,
        board=Board(store, feed),
        roll_call=RollCall(store),
        clock=clock,
        keyring=keyring,
        public_url=public_url,
        policies=in_force,
        ready=ready,
        channels=channels,
        chain=chain,
        provider=provider,
        wrong_secrets=Attempts(clock),
        wrong_answers=Attempts(clock),
    )
    for module in (api, audit_pages, batches, card, events, export, policies, queue, sessions, sign_in, sign_on):
        app.router.routes.extend(module.router.routes)
    app.router.redirect_slashes = False
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    add_problems(app)
    app.add_middleware(Boundary, public_url=public_url)
    return app
