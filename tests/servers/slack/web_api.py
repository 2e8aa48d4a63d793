"""The Web API over HTTP: tokens, scopes, arguments, rates, and the failures that were ordered.

What belongs here: what is the same for every method. What does not: what a method does.
Source: https://docs.slack.dev/apis/web-api/
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.slack.calls import Call, Method, Methods, SlackRefusal, Token
from tests.servers.slack.chat import CHAT
from tests.servers.slack.files import FILES
from tests.servers.slack.lookups import LOOKUPS
from tests.servers.slack.modals import VIEWS
from tests.servers.slack.objects import Json
from tests.servers.slack.orders import Orders, refuse
from tests.servers.slack.workspace import Workspace

UNIVERSAL = {"token", "team_id"}
"""Arguments that every method takes; `team_id` matters to tokens of an organisation only, and Bolt always gives it."""
FORM = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True)
class Asked:
    """A call that came, and what was answered: `ok`, an error string, or the order that it met."""

    method: str
    arguments: Json
    answer: str


@dataclass
class WebApi:
    """The methods, over the facts of a workspace.

    Attributes:
        tokens: those that were given out, by their value.
        asked: the calls that came, oldest first.
        release: ends the waiting of calls that met the order `late`.
        rated: whether calls are counted, and answered 429 if they are too many.
    """

    slack: Workspace
    orders: Orders = field(default_factory=Orders)
    tokens: dict[str, Token] = field(default_factory=dict[str, Token])
    methods: Methods = field(default_factory=Methods)
    asked: list[Asked] = field(default_factory=list[Asked])
    release: asyncio.Event = field(default_factory=asyncio.Event)
    rated: bool = False
    _times: dict[str, list[float]] = field(default_factory=lambda: defaultdict[str, list[float]](list))

    def __post_init__(self) -> None:
        for page in (CHAT, FILES, LOOKUPS, VIEWS):
            self.methods.update(page)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request to `/api/METHOD`."""
        name, arguments = request.match_info["method"], await _arguments(request)
        return await self.under_orders(
            request, name, arguments, lambda order: self._answer(request, name, arguments, order)
        )

    async def under_orders(
        self, request: web.Request, name: str, arguments: Json, do: Callable[[str], Awaitable[web.Response]]
    ) -> web.StreamResponse:
        """Answer a request by what was ordered for `name`; `do` does what it asks, or refuses with that error."""
        order = self.orders.take(name)
        if order in ("hang", "close", "garbage") or order[0].isdigit():
            self.note(name, arguments, order)
            return await _undone(request, order)
        answer = await do(order)
        if order == "lost":
            return _closed(request)
        if order == "late":
            await self.release.wait()
        if order.startswith("slow "):
            await asyncio.sleep(float(order.removeprefix("slow ")))
        return answer

    async def _answer(self, request: web.Request, name: str, arguments: Json, order: str) -> web.Response:
        try:
            method, call = self._judged(request, name, arguments, order)
            wait = self._too_many(method, call)
            if wait:
                self.note(name, arguments, "ratelimited")
                return _status(f"429 {wait}")
            body: Json = {"ok": True, **await method.do(self.slack, call)}
        except SlackRefusal as refusal:
            body = refusal.body
        self.note(name, arguments, body.get("error", "ok"))
        return web.json_response(body)

    def _judged(self, request: web.Request, name: str, arguments: Json, order: str) -> tuple[Method, Call]:
        """The method and the call, if no error was ordered and the token and the arguments are right.

        Source: https://docs.slack.dev/apis/web-api/#evaluating_responses and the errors that each method's page lists.
        """
        refuse(order)
        if name not in self.methods:
            raise SlackRefusal("unknown_method", req_method=name)
        method = self.methods[name]
        token = self._token(request, arguments, method)
        needed = [scope for scope in method.scopes if scope not in token.scopes]
        if needed:
            raise SlackRefusal("missing_scope", needed=",".join(needed), provided=",".join(sorted(token.scopes)))
        if request.content_type == "application/json" and not method.json:
            raise SlackRefusal("invalid_arguments", f"{name} does not read JSON")
        given = {key for key, value in arguments.items() if value is not None} - UNIVERSAL
        missing = [each for each in method.required if each not in given]
        if missing:
            raise SlackRefusal("invalid_arguments", *(f"missing required field: {each}" for each in missing))
        unknown = given - {*method.required, *method.optional}
        if unknown:
            raise SlackRefusal("invalid_arguments", *(f"{name} has no argument {each}" for each in sorted(unknown)))
        return method, Call(name, arguments, token)

    def _token(self, request: web.Request, arguments: Json, method: Method) -> Token:
        """https://docs.slack.dev/authentication/tokens; `apps.connections.open` reads it from the header only."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" and not method.app_level and request.content_type in FORM:
            value = str(arguments.get("token") or "")
        if not value:
            raise SlackRefusal("not_authed")
        token = self.tokens.get(value)
        if token is None:
            raise SlackRefusal("invalid_auth")
        if token.trouble:
            raise SlackRefusal(token.trouble)
        if token.is_app_level != method.app_level:
            raise SlackRefusal("not_allowed_token_type")
        return token

    def _too_many(self, method: Method, call: Call) -> int:
        """Seconds to wait: a method has its tier's calls a minute, and a channel one message a second.

        Source: https://docs.slack.dev/apis/web-api/rate-limits
        """
        if not self.rated:
            return 0
        now = self.slack.now()
        limits = [(method.name, method.tier, 60.0)]
        if method.name == "chat.postMessage":
            limits = [(f"{method.name} {call.arguments['channel']}", 1, 1.0)]
        for key, most, seconds in limits:
            recent = [at for at in self._times[key] if at > now - seconds]
            if len(recent) >= most:
                return max(1, round(recent[0] + seconds - now))
            self._times[key] = [*recent, now]
        return 0

    def note(self, method: str, arguments: Json, answer: str) -> None:
        """Write down what came and what was answered, without the token."""
        hidden: Json = {key: value for key, value in arguments.items() if key != "token"}
        self.asked.append(Asked(method, hidden, answer))
        self.slack.news.set()


async def _arguments(request: web.Request) -> Json:
    """What was asked: the query, and the form or the JSON of the body.

    Raises:
        SlackRefusal: never; a body that is not what it says has no arguments, as in Slack, and then misses some.
    """
    arguments: Json = dict(request.query)
    if request.content_type == "application/json":
        try:
            body: Any = json.loads(await request.text())
        except ValueError:
            body = {}
        return arguments | (body if isinstance(body, dict) else {})
    if request.content_type in FORM:
        return arguments | {key: str(value) for key, value in (await request.post()).items()}
    return arguments


async def _undone(request: web.Request, order: str) -> web.Response:
    """The end of a request of which nothing is done."""
    match order:
        case "hang":
            await asyncio.Event().wait()
            raise AssertionError
        case "close":
            return _closed(request)
        case "garbage":
            return web.Response(text="<html>Bad day</html>", content_type="text/html")
        case status:
            return _status(status)


def _closed(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _status(order: str) -> web.Response:
    status, _, wait = order.partition(" ")
    body: Json = {"ok": False, "error": "ratelimited" if status == "429" else "internal_error"}
    return web.json_response(body, status=int(status), headers={"Retry-After": wait} if wait else {})
