"""The browser and the HTTP API. Templates and static files lie beside the code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from broker.approvals.feed import Feed
from broker.approvals.service import Approvals
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock
from broker.store.writer import Store
from broker.web import api, events, export, pages, sign_in
from broker.web.boundary import Boundary
from broker.web.parts import Parts
from broker.web.problems import add_problems


def create_web(
    *,
    store: Store,
    approvals: Approvals,
    feed: Feed,
    clock: Clock,
    keyring: Keyring,
    public_url: str,
    ready: Callable[[], Awaitable[dict[str, Any]]],
) -> FastAPI:
    """The ASGI application of pages and API.

    Args:
        public_url: where browsers reach it; its host is the allowed Host and Origin.
        ready: tells whether the broker can work; its `status` is `ok` when it can.
    """
    app = FastAPI(title="Approval broker", version="1", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.parts = Parts(
        store=store, approvals=approvals, feed=feed, clock=clock, keyring=keyring, public_url=public_url, ready=ready
    )
    for module in (api, events, export, pages, sign_in):
        app.router.routes.extend(module.router.routes)
    app.router.redirect_slashes = False
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    add_problems(app)
    app.add_middleware(Boundary, public_url=public_url)
    return app
