"""The strict local Slack: its server, and what a test does and sees there.

What belongs here: putting the parts together, and the view of a person in the workspace. What does not: rules.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from tests.servers.slack import interactions, reading, responses
from tests.servers.slack.blocks import checked_view
from tests.servers.slack.calls import Call, Token
from tests.servers.slack.deliveries import Deliveries, Delivery, form, signed
from tests.servers.slack.files import upload
from tests.servers.slack.interactions import Button, Interaction
from tests.servers.slack.mrkdwn import Seen
from tests.servers.slack.objects import BOT_USER, Channel, Json, Message, Person, View
from tests.servers.slack.orders import Order
from tests.servers.slack.sockets import Sockets
from tests.servers.slack.web_api import Asked, WebApi
from tests.servers.slack.workspace import Workspace

BOT_TOKEN = "xoxb-local-bot"
APP_TOKEN = "xapp-local-app"
SIGNING_SECRET = "local-signing-secret"
BOT_SCOPES = frozenset(
    {"chat:write", "commands", "files:write", "im:write"}
    | {"users:read", "users:read.email", "usergroups:read", "channels:read"}
)


class Slack(Workspace):
    """A workspace with one app in it, and its server.

    Attributes:
        api_url: what the app has to be given; `url` is the same without a path.
        api: the Web API: `api.tokens`, `api.asked`, `api.rated`.
        sockets: the Socket Mode connections: `sockets.disconnect()`, `sockets.cut()`, `sockets.refusing`.
        deliveries: the way to the app: `deliveries.request_url` (None: Socket Mode), `deliveries.made`.
    """

    def __init__(self, http: aiohttp.ClientSession) -> None:
        super().__init__()
        self.api = WebApi(self)
        self.sockets = Sockets(self)
        self.deliveries = Deliveries(self, self.sockets, http, SIGNING_SECRET)
        opening = self.api.methods.add("apps.connections.open", scopes=["connections:write"], app_level=True)
        opening(self._open_connection)
        self.grant(BOT_TOKEN, BOT_SCOPES)
        self.grant(APP_TOKEN, ["connections:write"])
        self.people[BOT_USER] = Person(BOT_USER, "Broker", None, is_bot=True)
        self._site: web.TCPSite | None = None
        self._runner = web.AppRunner(self._routes(), handle_signals=False, access_log=None, shutdown_timeout=0.1)

    # -- What the administrator does.

    @property
    def api_url(self) -> str:
        """What the app has as its `api_url`."""
        return f"{self.url}/api/"

    def grant(self, token: str, scopes: Iterable[str], trouble: str | None = None) -> None:
        """Give a token out, or change one; `trouble` is what it is answered: token_revoked, account_inactive, …"""
        self.api.tokens[token] = Token(token, frozenset(scopes), trouble)

    def revoke(self, token: str, trouble: str = "token_revoked") -> None:
        """Answer a token with an error from now on."""
        self.grant(token, self.api.tokens[token].scopes, trouble)

    def order(self, what: str, method: str = "", times: float = 1) -> None:
        """Let the next calls fail, see `Order`; `method` may be `response_url` or `upload`, too."""
        self.api.orders.waiting.append(Order(what, method, times))

    async def go_down(self) -> None:
        """Refuse connections, and close those that there are."""
        if self._site is not None:
            await self._site.stop()
        self._close_all()

    async def come_up(self) -> None:
        """Listen, at the same port as before."""
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await self._site.start()
        assert self._runner.addresses
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.sockets.base = f"{self.url.replace('http', 'ws', 1)}/link"

    # -- What people see.

    def asked(self, method: str) -> list[Asked]:
        """The calls of a method that came, oldest first."""
        return [each for each in self.api.asked if each.method == method]

    def buttons(self, message: Message, version: int | None = None) -> list[Button]:
        """The buttons that a message has now, or had in a version; links too."""
        if version is None:
            return [] if message.deleted else interactions.buttons(message.blocks)
        return interactions.buttons(message.versions[version].blocks)

    def seen(self, what: Message | View) -> Seen:
        """What a reader sees of a message or a modal, and which mentions, links and formatting take effect."""
        return reading.message(what) if isinstance(what, Message) else reading.view(what)

    def notified(self, message: Message) -> Seen:
        """What the notification of a message says, and what takes effect in it."""
        return reading.fallback(message)

    def modal(self, user: Person) -> View | None:
        """The modal that is open before `user`."""
        return next((view for view in reversed(self.views.values()) if view.user is user and view.open), None)

    # -- What people do.

    def press(self, user: Person, message: Message, action: str | Button, version: int | None = None) -> Interaction:
        """A click on a button, not delivered yet; `version` says in which version of the message it was seen.

        Raises:
            LookupError: nobody can click this: no such button, the message is deleted, or not shown to `user`.
        """
        if message.only_for not in (None, user) or (message.deleted and version is None):
            raise LookupError("this person does not see this message")
        at = -1 if version is None else version
        for button in interactions.buttons(message.versions[at].blocks):
            if action in (button, button.action_id):
                return interactions.press(self, user, message, button, at)
        raise LookupError(f"no button {action}")

    async def send(self, interaction: Interaction) -> Delivery:
        """Deliver an interaction, now or again, and do what its acknowledgement says."""
        delivery = await self.deliveries.deliver(interaction)
        if not delivery.failed:
            self._settle(interaction, delivery.answer)
        self.news.set()
        return delivery

    async def click(self, user: Person, message: Message, action: str | Button, version: int | None = None) -> Delivery:
        """Click a button; gives how the app acknowledged it."""
        return await self.send(self.press(user, message, action, version))

    async def submit(self, view: View, values: Mapping[str, Any]) -> Delivery:
        """Send a modal; `values` are by action id or block id. It closes unless the app says otherwise."""
        return await self.send(interactions.submission(self, view, values))

    async def close(self, view: View) -> Delivery | None:
        """Close a modal; the app hears it if it asked for that (`notify_on_close`)."""
        view.open = False
        return await self.send(interactions.closing(view)) if view.given.get("notify_on_close") else None

    async def command(self, user: Person, name: str, text: str = "", place: Channel | str | None = None) -> Delivery:
        """Type a command, in a channel or in the direct messages with the app."""
        channel = self.direct(user) if place is None else self.named(place)
        return await self.send(interactions.command(self, user, name, text, channel))

    async def replay(self, delivery: Delivery, **headers: str) -> int:
        """Send the HTTP request of a delivery again as it was (`headers` replace its own); gives the status."""
        status, _ = await self.deliveries.post(delivery.body, {**delivery.headers, **headers})
        return status

    async def verify_url(self) -> bool:
        """Ask the request URL for its challenge, as the app's settings do when it is entered there.

        Source: https://docs.slack.dev/reference/events/url_verification
        """
        challenge = self.new_id("challenge")
        body = json.dumps({"type": "url_verification", "token": "legacy-verification-token", "challenge": challenge})
        headers = {**signed(body, SIGNING_SECRET, self.now()), "Content-Type": "application/json"}
        status, said = await self.deliveries.post(body, headers)
        return status == 200 and challenge in (said if isinstance(said, str) else said.values())

    async def forge(self, interaction: Interaction, *, secret: str = SIGNING_SECRET, age: float = 0.0) -> int:
        """Send an interaction over HTTP, signed with `secret` `age` seconds ago; gives the status."""
        body = form(interaction)
        status, _ = await self.deliveries.post(body, signed(body, secret, self.now() - age))
        return status

    # -- The server.

    def _routes(self) -> web.Application:
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_route("*", "/api/{method}", self.api.handle)
        app.router.add_get("/link/", self.sockets.handle)
        app.router.add_post("/upload/v1/{file}", self._upload)
        app.router.add_post("/actions/{team}/{name}", self._respond)
        return app

    async def _open_connection(self, slack: Workspace, call: Call) -> Json:
        """https://docs.slack.dev/reference/methods/apps.connections.open; its scope: …/scopes/connections.write"""
        return {"url": self.sockets.new_url()}

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        return await self.api.under_orders(request, "upload", {}, lambda _: upload(self, request))

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        body: Json = json.loads(await request.text())

        async def do(order: str) -> web.Response:
            told = responses.respond(self, request.match_info["name"], body, order)
            self.api.note("response_url", body, told)
            return responses.answer(told)

        return await self.api.under_orders(request, "response_url", body, do)

    def _settle(self, interaction: Interaction, answer: Json) -> None:
        """What an acknowledgement does: a command's is shown to its person, a submission's decides over its modal."""
        if interaction.kind == "slash_commands" and answer:
            name = interaction.payload["response_url"].rpartition("/")[2]
            told = responses.respond(self, name, answer, counted=False)
            assert told == "ok", told
        elif interaction.view is not None and interaction.payload["type"] == "view_submission":
            _decide(self, interaction.view, answer)

    def _close_all(self) -> None:
        self.sockets.cut()
        if self._runner.server is not None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()

    async def start(self) -> None:
        """Listen at a free port of loopback."""
        await self._runner.setup()
        await self.come_up()

    async def stop(self) -> None:
        """Be no more."""
        self.api.release.set()
        self._close_all()
        await self._runner.cleanup()


def _decide(slack: Workspace, view: View, answer: Json) -> None:
    """https://docs.slack.dev/surfaces/modals#updating_views and #displaying_errors"""
    match answer.get("response_action"):
        case "errors":
            inputs = {block["block_id"] for block in view.given["blocks"] if block["type"] == "input"}
            assert answer["errors"].keys() <= inputs, "errors are by the block_id of an input"
            view.errors = answer["errors"]
        case "update":
            view.show(checked_view(slack, answer["view"]), slack.new_ts())
        case None | "clear":
            view.open = False
        case other:
            raise AssertionError(f"this Slack does not know the response_action {other}")


@contextlib.asynccontextmanager
async def running_slack(request_url: str | None = None) -> AsyncGenerator[Slack]:
    """An empty workspace with the app in it; `request_url` is where the app takes HTTP, without one it has sockets."""
    async with aiohttp.ClientSession() as http:
        slack = Slack(http)
        slack.deliveries.request_url = request_url
        await slack.start()
        try:
            yield slack
        finally:
            await slack.stop()
