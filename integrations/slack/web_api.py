"""Slack's Web API: one client, and what its answers mean to the broker.

What belongs here: calling a method, and telling what went wrong in a sentence that says what to do. What does not: what
is said in a message, and when something is tried again (`broker.approvals.outbox`).

https://docs.slack.dev/apis/web-api, and the errors that each method's page lists below
https://docs.slack.dev/reference/methods.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from broker.domain.text import visible
from broker.errors import ChannelError, MessageGone, MessageRefused, PlaceMissing

log = logging.getLogger(__name__)

CALL_ERRORS = (SlackClientError, aiohttp.ClientError, OSError, AttributeError, ValueError)
"""What Slack's client raises; the last two where it meets an answer that is no object of JSON."""

WITHIN = 8.0
"""Seconds that Slack has for one answer; less than an outbox has for one message."""

_GONE = frozenset({"message_not_found", "thread_not_found", "cant_update_message", "edit_window_closed"})

_MISSING = {
    "channel_not_found": "Slack shows the app no such channel: is its name right? If so, run `/invite {app}` there",
    "not_in_channel": "the app is not in this channel: run `/invite {app}` there",
    "is_archived": "the channel is archived: restore it, or name another",
    "is_inactive": "the channel is archived or deleted: name another",
    "invalid_channel": "Slack has no such channel: name another",
    "no_permission": "the app may not post there: run `/invite {app}` there",
    "posting_to_channel_denied": "the app may not post there: run `/invite {app}` there",
    "channel_type_not_supported": "nothing can be posted in a channel of this kind: name another",
    "messages_tab_disabled": "the app takes no direct messages: switch on its messages tab (App Home)",
    "restricted_action": "the workspace does not let the app post there: let it, or name another channel",
}
"""Errors of a place, with what to do."""

_TOKEN = {
    "not_authed": "it was sent none",
    "invalid_auth": "it is wrong, or this machine's address is not allowed",
    "account_inactive": "the app or its workspace was removed",
    "token_revoked": "it was revoked, or the app was removed",
    "token_expired": "it expired",
    "not_allowed_token_type": "it is of another kind",
}
"""Errors of a token, with their reasons."""

_UNREADABLE = "what Slack answers cannot be read: is slack.api_url right?"

_OF_THE_MESSAGE = (
    *("invalid_arg", "invalid_array_arg", "invalid_blocks", "invalid_form", "msg_", "no_text", "block_"),
    *("file_", "storage_limit", "snippet_", "unknown_snippet"),
)
"""How errors begin that would come again however often the same is sent."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where the app is installed, and as whom.

    Args:
        url: of the workspace, such as `https://example.slack.com/`.
        user_id: the app's own user; `name` is what people invite it by.
        enterprise_id: of the organisation that the workspace is part of, if it is.
    """

    team_id: str
    url: str
    user_id: str
    name: str
    enterprise_id: str | None


class WebApi:
    """The Web API with the app's bot token, for as long as the context lasts.

    Args:
        api_url: `https://slack.com/api/`, or a server that speaks like it. A proxy of the environment (`HTTPS_PROXY`,
            `NO_PROXY`) counts.
        within: the seconds that Slack has for one answer.
    """

    def __init__(self, bot_token: str, api_url: str, *, within: float = WITHIN) -> None:
        self.client = AsyncWebClient(bot_token, api_url, retry_handlers=[])  # the outbox tries again
        self.client.proxy = proxy_for(api_url)
        self._within = within
        self._workspace: Workspace | None = None

    async def __aenter__(self) -> WebApi:
        self.client.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._within))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.client.session is not None:
            await self.client.session.close()

    async def workspace(self) -> Workspace:
        """The workspace of the token; asked until it is known.

        Raises:
            ChannelError: as `call`.
        """
        if self._workspace is None:
            told = await self.call("auth.test")
            self._workspace = Workspace(
                str(told.get("team_id")),
                str(told.get("url")),
                str(told.get("user_id")),
                str(told.get("user")),
                told.get("enterprise_id"),
            )
        return self._workspace

    async def call(self, method: str, **arguments: Any) -> Mapping[str, Any]:
        """Call a method, such as `chat.postMessage`; arguments that are None are left out.

        Returns:
            What Slack answered.

        Raises:
            MessageGone, PlaceMissing, MessageRefused, ChannelError: what went wrong; `reason` is Slack's word for it,
                if Slack said one.
        """
        try:
            called: Any = self.client.api_call(method, data=_form(arguments))  # pyright: ignore[reportUnknownMemberType]
            data = (await called).data
        except CALL_ERRORS as error:
            raise refusal(error, self._workspace) from None  # it carries the request, and that the token
        if not isinstance(data, dict):
            raise ChannelError(_UNREADABLE)
        return cast("dict[str, Any]", data)

    async def upload(self, url: str, content: bytes) -> None:
        """Send a file's content where `files.getUploadURLExternal` said; the token is not sent there.

        Raises:
            ChannelError: it did not arrive.
        """
        assert self.client.session is not None  # noqa: S101 - within the context
        try:
            async with self.client.session.post(url, data=content, proxy=self.client.proxy) as answer:
                if answer.status != 200:
                    raise ChannelError(f"Slack answered {answer.status} to a file")
        except (OSError, aiohttp.ClientError) as error:
            raise refusal(error) from None

    async def respond(self, url: str, text: str, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Answer one person, at the `response_url` of what they did; the token is not sent there.

        https://docs.slack.dev/interactivity/handling-user-interaction#message_responses

        Raises:
            ChannelError: it did not arrive.
        """
        assert self.client.session is not None  # noqa: S101 - within the context
        body = {"response_type": "ephemeral", "replace_original": False, "text": text, "blocks": blocks}
        try:
            async with self.client.session.post(url, json=body, proxy=self.client.proxy) as answer:
                if answer.status != 200:
                    raise ChannelError(f"Slack answered {answer.status} to a response")
        except (OSError, ValueError, aiohttp.ClientError) as error:
            raise refusal(error) from None


def proxy_for(url: str) -> str | None:
    """The proxy that the environment asks for on the way to `url`."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get({"wss": "https", "ws": "http"}.get(parts.scheme, parts.scheme))


def refusal(error: Exception, workspace: Workspace | None = None, setting: str = "slack.bot_token") -> ChannelError:
    """What one of `CALL_ERRORS` means, as a sentence without its full stop, so that it can be part of another.

    Args:
        workspace: as far as it is known.
        setting: where the token is set that was sent.
    """
    match error:
        case SlackApiError():
            return _refused(error.response, workspace, setting)  # pyright: ignore[reportUnknownMemberType]
        case TimeoutError():
            return ChannelError("Slack does not answer in time")
        case aiohttp.ClientError() | OSError():
            return ChannelError(f"Slack cannot be reached ({type(error).__name__})")
        case _:
            return ChannelError(_UNREADABLE)


def _refused(response: Any, workspace: Workspace | None, setting: str) -> ChannelError:
    """`response` is the client's, or the bare one where its body was not JSON."""
    status: int = getattr(response, "status_code", None) or response.status
    data: Any = getattr(response, "data", None)
    told = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    reason = told.get("error")
    if status == 429 or reason in ("ratelimited", "rate_limited"):
        return ChannelError("Slack asks for fewer messages", retry_after=_seconds(response.headers), reason=reason)
    if isinstance(reason, str):
        return _judged(reason, str(told.get("needed") or ""), workspace, setting)
    if status >= 500:
        return ChannelError(f"Slack is in trouble itself (it answered {status})")
    return ChannelError(_UNREADABLE if status == 200 else f"Slack answered {status}: is slack.api_url right?")


def _judged(reason: str, needed: str, workspace: Workspace | None, setting: str) -> ChannelError:
    if reason in _GONE:
        return MessageGone(reason=reason)
    kind = "restricted_action" if reason.startswith("restricted_action") else reason
    if kind in _MISSING:
        app = f"@{workspace.name}" if workspace is not None else "@ and the app's name"
        return PlaceMissing(f"{_MISSING[kind].format(app=app)} ({reason})", reason=reason)
    if reason in _TOKEN:
        what = f"Slack does not take the token in {setting}: {_TOKEN[reason]} ({reason})"
        return ChannelError(f"{what}; install the app again, set the new token and restart the broker", reason=reason)
    if reason == "missing_scope":
        what = f"the token in {setting} lacks {f'the scope {visible(needed)}' if needed else 'a scope'}"
        return ChannelError(f"{what}: add it to the app's, as the manifest has it, and install it again", reason=reason)
    if reason.startswith(_OF_THE_MESSAGE):
        return MessageRefused(f"Slack never takes this message ({visible(reason)})", reason=reason)
    return ChannelError(f"Slack answered {visible(reason)}", reason=reason)


def _seconds(headers: Mapping[str, str]) -> float | None:
    try:
        return float(headers["Retry-After"])
    except (KeyError, ValueError):
        return None


def _form(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Arguments as every method takes them: fields of a form, in which what has parts is JSON."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
