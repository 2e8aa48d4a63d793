"""What goes wrong with Slack's Web API is one error with a sentence that says what to do, and never has the token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import pytest

from broker.errors import ChannelError, MessageGone, MessageRefused, PlaceMissing
from integrations.slack.web_api import WebApi, proxy_for
from tests.servers import BOUND, raw_http, read_http

TOKEN = "xoxb-1-secret"


@dataclass
class Line:
    """A server that answers whatever the test writes, as bytes; `asked` is the last request."""

    url: str = ""
    answer: bytes | None = b""
    head: list[str] = field(default_factory=list[str])
    body: bytes = b""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head, self.body = await read_http(reader)
        if self.answer is None:
            await reader.read()
        else:
            writer.write(self.answer)

    def says(self, body: object, status: int = 200, fields: str = "Content-Type: application/json\r\n") -> None:
        """What it answers next: JSON, or text as it is."""
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\n{fields}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        self.answer = head.encode() + data


@pytest.fixture
async def line() -> AsyncGenerator[Line]:
    made = Line()
    async with raw_http(made.handle) as url:
        made.url = url.removesuffix("mcp")
        yield made


async def _error(line: Line, within: float = BOUND) -> ChannelError:
    async with WebApi(TOKEN, line.url, within=within) as web:
        with pytest.raises(ChannelError) as raised:
            await web.call("chat.postMessage", channel="#a", text="b")
    assert TOKEN not in str(raised.value)
    assert raised.value.__cause__ is None, "the cause carries the request"
    return raised.value


async def test_a_method_is_called_with_the_token_and_a_form_whose_parts_are_json(line: Line) -> None:
    line.says({"ok": True, "ts": "1.2"})
    async with WebApi(TOKEN, line.url) as web:
        told = await web.call(
            "chat.postMessage", channel="#a", blocks=[{"a": "ü&"}], unfurl_links=False, thread_ts=None
        )
    assert told["ts"] == "1.2"
    assert line.head[0] == "POST /chat.postMessage HTTP/1.1"
    assert f"Authorization: Bearer {TOKEN}" in line.head
    given = {name: value for name, [value] in parse_qs(line.body.decode()).items()}
    assert json.loads(given.pop("blocks")) == [{"a": "ü&"}]
    assert given == {"channel": "#a", "unfurl_links": "false"}


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("message_not_found", MessageGone, ""),
        ("cant_update_message", MessageGone, ""),
        ("edit_window_closed", MessageGone, ""),
        ("channel_not_found", PlaceMissing, "run `/invite @ and the app's name` there"),
        ("not_in_channel", PlaceMissing, "run `/invite @ and the app's name` there"),
        ("is_archived", PlaceMissing, "archived"),
        ("restricted_action_read_only_channel", PlaceMissing, "restricted_action_read_only_channel"),
        ("invalid_auth", ChannelError, "slack.bot_token"),
        ("token_revoked", ChannelError, "install the app again"),
        ("account_inactive", ChannelError, "install the app again"),
        ("invalid_blocks", MessageRefused, "invalid_blocks"),
        ("msg_too_long", MessageRefused, "msg_too_long"),
        ("ratelimited", ChannelError, "fewer"),
        ("rate_limited", ChannelError, "fewer"),
        ("new_in_2031", ChannelError, "new_in_2031"),
        ("two\nlines\u202e", ChannelError, "two\\nlines\\u202e"),
    ],
)
async def test_each_error_of_slack_says_what_to_do(
    line: Line, reason: str, kind: type[ChannelError], words: str
) -> None:
    line.says({"ok": False, "error": reason})
    error = await _error(line)
    assert (type(error), error.reason) == (kind, reason)
    assert words in str(error)


async def test_a_missing_scope_is_named(line: Line) -> None:
    line.says({"ok": False, "error": "missing_scope", "needed": "chat:write", "provided": "users:read"})
    assert "lacks the scope chat:write: add it" in str(await _error(line))


@pytest.mark.parametrize(
    ("wait", "seconds"), [("30", 30.0), ("soon", None), ("nan", pytest.approx(float("nan"), nan_ok=True))]
)
async def test_slack_says_how_long_it_wants_to_be_left_alone(line: Line, wait: str, seconds: float | None) -> None:
    line.says({"ok": False, "error": "ratelimited"}, 429, f"Retry-After: {wait}\r\nContent-Type: application/json\r\n")
    assert (await _error(line)).retry_after == seconds
    line.says("", 429, f"Retry-After: {wait}\r\n")
    assert (await _error(line)).retry_after == seconds


@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/plain"])
@pytest.mark.parametrize("body", ["<html>", "[1]", "7", "", "{", "null", '{"ok": 0}', '{"error": 7}'])
@pytest.mark.parametrize("status", [200, 404, 502])
async def test_what_is_no_answer_of_slack_is_said_to_be_none(line: Line, status: int, kind: str, body: str) -> None:
    line.says(body, status, f"Content-Type: {kind}\r\n")
    words = {200: "cannot be read: is slack.api_url right?", 404: "404: is slack.api_url right?", 502: "502"}
    assert words[status] in str(await _error(line))


async def test_bytes_that_are_no_text_cannot_be_read(line: Line) -> None:
    line.says('{"ok": true}', fields="Content-Type: application/gzip\r\n")
    assert "cannot be read" in str(await _error(line))
    line.answer = (
        b"HTTP/1.1 200 X\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n\xff\xfe"
    )
    assert "cannot be read" in str(await _error(line))


async def test_a_server_that_hangs_up_is_not_reached(line: Line) -> None:
    for line.answer in (b"", b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{"):
        assert "Slack cannot be reached" in str(await _error(line))


async def test_nobody_there_is_not_reached() -> None:
    assert "Slack cannot be reached" in str(await _error(Line("http://127.0.0.1:1/")))


async def test_a_server_that_is_silent_has_a_time_limit(line: Line) -> None:
    line.answer = None
    assert str(await _error(line, within=0.05)) == "Slack does not answer in time"


async def test_the_place_to_invite_the_app_to_names_it(line: Line) -> None:
    async with WebApi(TOKEN, line.url) as web:
        line.says({"ok": True, "team_id": "T1", "url": "https://x.slack.com/", "user_id": "U1", "user": "broker"})
        assert (await web.workspace()).team_id == "T1"
        line.says({"ok": False, "error": "not_in_channel"})
        assert (await web.workspace()).enterprise_id is None
        with pytest.raises(PlaceMissing, match="run `/invite @broker` there"):
            await web.call("chat.postMessage", channel="#a", text="b")


async def test_a_file_is_sent_without_the_token(line: Line) -> None:
    line.says("OK - 3", fields="Content-Type: text/plain\r\n")
    async with WebApi(TOKEN, line.url) as web:
        await web.upload(f"{line.url}upload/1", b"abc")
    assert line.body == b"abc"
    assert TOKEN not in "".join(line.head)


async def test_a_file_that_does_not_arrive_is_told(line: Line) -> None:
    async with WebApi(TOKEN, line.url, within=0.05) as web:
        line.says("", 500)
        with pytest.raises(ChannelError, match="500"):
            await web.upload(line.url, b"abc")
        line.answer = None
        with pytest.raises(ChannelError, match="in time"):
            await web.upload(line.url, b"abc")


def test_a_proxy_of_the_environment_counts_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_for("https://slack.com/api/") is None
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,.example.org")
    assert proxy_for("https://slack.com/api/") == "http://proxy.example.com:3128"
    assert proxy_for("wss://wss-primary.slack.com/link") == "http://proxy.example.com:3128"
    assert proxy_for("http://slack.com/api/") is None
    assert proxy_for("https://chat.example.org/api/") is None
    assert proxy_for("http://127.0.0.1:3000/api/") is None
