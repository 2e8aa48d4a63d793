"""A small website on this machine that remembers what was asked of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from aiohttp import web

PAGES = {
    "/robots.txt": ("text/plain", "User-agent: *\nDisallow: /private/\n"),
    "/page.html": ("text/html", "<html><body><h1>Opening hours</h1><p>Nine to five.</p></body></html>"),
    "/data.json": ("application/json", '{"open": true}'),
    "/private/page.html": ("text/html", "<html><body><p>For people only.</p></body></html>"),
}


@dataclass
class Website:
    """Where it is, and the paths that were asked for, in order."""

    url: str = ""
    visits: list[str] = field(default_factory=list[str])

    async def answer(self, request: web.Request) -> web.Response:
        """The page at the request's path."""
        self.visits.append(request.path)
        if request.path not in PAGES:
            raise web.HTTPNotFound
        kind, text = PAGES[request.path]
        return web.Response(text=text, content_type=kind)


@contextlib.asynccontextmanager
async def website() -> AsyncGenerator[Website]:
    """One that is up, on a free port."""
    site, app = Website(), web.Application()
    app.router.add_get("/{path:.*}", site.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield site
    finally:
        await runner.cleanup()
