"""The outermost layer: which requests come in at all, and the headers every answer carries.

What belongs here: Host, Origin, size. What does not: who asks (`broker.web.identity`).
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.domain.origins import Origins
from broker.web.headers import SECURITY_HEADERS
from broker.web.problems import problem

LARGEST_BODY = 64 * 1024
"""The most bytes a request may carry: a reason and a few names."""

_PROBES = frozenset({"/healthz", "/readyz"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Boundary:
    """Refuses what was not meant for this broker, and adds the security headers.

    Args:
        public_url: where browsers reach the broker (see `Origins`).
    """

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        self._app = app
        self._origins = Origins(public_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-cache")
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["path"] not in _PROBES and not self._origins.allows_host(headers.get("host")):
            return problem(421, "wrong_host", "This name is not the broker's: use the address in server.public_url.")
        if scope["method"] in _READS:
            return None
        if not self._same_origin(headers):
            return problem(403, "forged_form", "The request came from another site: nothing was done.")
        return _size_refusal(headers)

    def _same_origin(self, headers: Headers) -> bool:
        """Whether no page of another site made the request.

        Under `no-referrer` a browser sends a form of our own pages with `Origin: null`; `Sec-Fetch-Site`, where the
        browser sends it, tells it from a sandboxed page elsewhere. A form needs its token in any case.
        """
        if headers.get("sec-fetch-site") not in (None, "same-origin", "none"):
            return False
        origin = headers.get("origin")
        return origin == "null" or self._origins.allows_origin(origin)


def _size_refusal(headers: Headers) -> Response | None:
    if "transfer-encoding" in headers:
        return problem(411, "length_required", "Say how long the body is: nothing was done.")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > LARGEST_BODY:
        return problem(413, "too_large", f"The body may have {LARGEST_BODY} bytes: nothing was done.")
    return None
