"""When the broker is away, restarts, refuses, or breaks off: what is sent again, what never is, and what is told."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from broker.domain.answers import META_KEY
from tests.bridge.conftest import POLICY
from tests.bridge.ends import (
    INITIALIZE,
    INITIALIZED,
    Message,
    bridge,
    client,
    field,
    instead_of_a_broker,
    respond,
)
from tests.cli.conftest import Shell
from tests.gateway.scene import ERAS, HOLD_ACT, Agent, Scene, modern, playing, text, told, tool_call
from tests.servers import BOUND, features_stdio, read_http
from tests.servers.scripted import Scripted, result

CALL: Message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "act", "arguments": {}}}
LIST: Message = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
DONE: Message = {"content": [{"type": "text", "text": "done"}]}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def answer(message: Message, value: Message | None = None) -> Message:
    return {"jsonrpc": "2.0", "id": message["id"], "result": value or {}}


def decision(message: Message) -> Message:
    return message["result"]["_meta"][META_KEY]


# -- how it is started ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "BROKER_GRANT is not set"),
        ({"BROKER_GRANT": " "}, "BROKER_GRANT is not set"),
        ({"BROKER_GRANT": "bg_x\r\nX-Other: 1"}, "BROKER_GRANT is not a token"),
        ({"BROKER_GRANT": "bg_x", "BROKER_URL": "ftp://127.0.0.1"}, "BROKER_URL is not the address"),
        ({"BROKER_GRANT": "bg_x", "BROKER_URL": "127.0.0.1:8750"}, "BROKER_URL is not the address"),
        ({"BROKER_GRANT": "bg_x", "BROKER_URL": "http://127.0.0.1:port"}, "BROKER_URL is not the address"),
        ({"BROKER_GRANT": "bg_x", "BROKER_URL": "http://a:b@127.0.0.1"}, "BROKER_URL is not the address"),
        ({"BROKER_GRANT": "bg_x", "BROKER_URL": "http://127.0.0.1/mcp/other"}, "leads to the upstream 'other'"),
    ],
)
def test_without_a_grant_or_an_address_it_does_not_start(environment: dict[str, str], says: str, shell: Shell) -> None:
    assert says in (said := shell.refused("connect", "git", status=2, **environment))
    assert "bg_x" not in said


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://broker.example.com", True),
        ("http://10.0.0.1:8750", True),
        ("https://broker.example.com", False),
        ("http://localhost:8750", False),
        ("http://[::1]:8750", False),
    ],
)
def test_a_grant_that_goes_over_a_network_in_the_clear_is_warned_of(url: str, warned: bool, shell: Shell) -> None:
    ended = shell.run("connect", "git", BROKER_URL=url)
    assert ("WARNING: the grant goes to" in ended.stderr) is warned


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp/one/"])
async def test_the_address_may_be_the_one_that_goes_with_the_grant(path: str, small: Scene) -> None:
    agent = await small.agent()
    async with bridge(agent.url + path, agent.token, "one") as own:
        assert "result" in await own.ask(INITIALIZE)


# -- what the broker refuses ------------------------------------------------------------------------------------------


async def test_an_unknown_grant_is_told_to_the_client_and_to_a_person_and_never_shown(scene: Scene) -> None:
    async with bridge(scene.broker.url, "bg_wrong", "http") as own:
        refused = await own.ask(INITIALIZE)
        assert "is unknown, expired or revoked" in refused["error"]["message"]
        assert refused["id"] == INITIALIZE["id"]
        await own.ask(tool_call("echo"))
        status, out, error = await own.leave()
    assert (status, out, error.count("ask your administrator for a new one")) == (0, b"", 1)
    assert "bg_wrong" not in error


async def test_a_grant_that_ends_meanwhile_is_told(scene: Scene, agent: Agent) -> None:
    async with bridge(agent.url, agent.token, "http") as own:
        await own.open()
        assert "result" in await own.ask(LIST)
        await scene.revoke(agent)
        async with asyncio.timeout(BOUND):
            while "is unknown, expired or revoked" not in (await own.ask(LIST)).get("error", {}).get("message", ""):
                pass


async def test_an_upstream_that_is_not_there_or_not_for_the_grant_is_told(scene: Scene) -> None:
    agent = await scene.agent("stdio")
    async with bridge(agent.url, agent.token, "nothing") as own:
        assert "The broker has no upstream at" in (await own.ask(INITIALIZE))["error"]["message"]
        assert "The broker has no upstream at" in (await own.leave())[2]
    async with bridge(agent.url, agent.token, "http") as own:
        assert (await own.ask(INITIALIZE))["error"]["message"] == "This grant is not for http."


@pytest.mark.parametrize("status", [200, 302, 404, 413, 502])
async def test_what_is_no_broker_is_told(status: int) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 5\r\nlocation: /\r\n\r\nhello".encode())

    async with instead_of_a_broker(other) as url, bridge(url, "bg_x", "one") as own:
        said = (await own.ask(INITIALIZE))["error"]["message"]
    assert url in said


async def test_the_grant_goes_to_the_broker_alone(small: Scene, server: Scripted) -> None:
    """Not where a redirect points, and not to a proxy that the environment names."""
    asked = list[list[str]]()

    async def thief(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await read_http(reader))[0])
        respond(writer, b"")

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        respond(writer, b"", f"location: {away}/mcp/one", status=307)

    agent = await small.agent()
    async with instead_of_a_broker(thief) as away, instead_of_a_broker(elsewhere) as moved:
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), away)
        async with bridge(agent.url, agent.token, "one", **proxies) as own:
            assert "result" in await own.ask(INITIALIZE)
        async with bridge(moved, agent.token, "one") as own:
            assert "redirects to elsewhere" in (await own.ask(INITIALIZE))["error"]["message"]
    assert asked == []


async def test_a_broker_whose_certificate_nobody_vouches_for_never_sees_the_grant(tmp_path: Path) -> None:
    heard = list[bytes]()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    impostor = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{impostor.sockets[0].getsockname()[1]}"
    async with bridge(url, "bg_secret", "one") as own:
        refused = await own.ask(INITIALIZE)
    impostor.close()
    assert "cannot be reached" in refused["error"]["message"]
    assert heard == []


# -- a broker that is away --------------------------------------------------------------------------------------------


async def test_a_broker_that_cannot_be_reached_is_told_and_nothing_ran() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with bridge(url, "bg_x", "one", "--wait", "1s") as own:
        failed = await own.ask(INITIALIZE)
        assert f"The broker at {url}/mcp/one cannot be reached" in failed["error"]["message"]
        own.say(CALL, tool_call("act", {}, 2))
        answers = {one["id"]: one for one in (await own.hear(), await own.hear())}
        refused = answers[1]
        assert refused["result"]["isError"]
        assert (decision(refused)["status"], decision(refused)["retry"]) == ("unavailable", "later")
        assert "Nothing ran" in refused["result"]["content"][0]["text"]
        assert "resultType" not in refused["result"]
        assert answers[2]["result"]["resultType"] == "complete"
        error = (await own.leave())[2]
    away = f"broker connect: The broker at {url}/mcp/one cannot be reached (Connection refused)."
    assert error.splitlines() == [f"{away} Trying again.", f"{away} A request was given up."]


async def test_an_address_with_https_of_a_broker_without_is_told_at_once(small: Scene) -> None:
    agent = await small.agent()
    async with bridge(agent.url.replace("http:", "https:"), agent.token, "one") as own:
        told_so = (await own.ask(INITIALIZE))["error"]["message"]
        error = (await own.leave())[2]
    assert "BROKER_URL has to begin with http://" in told_so
    assert error.count(told_so) == 1


async def test_a_request_waits_for_a_broker_that_is_not_up_yet_and_the_end_does_not_wait(
    tmp_path: Path, scripted_server: Scripted
) -> None:
    port = free_port()
    async with bridge(f"http://127.0.0.1:{port}", "bg_x", "one") as own:
        own.say(INITIALIZE)
        assert b"Trying again." in await asyncio.wait_for(own.stderr.readline(), BOUND)
        async with playing(tmp_path, {"one": {"url": scripted_server.url, "policy": HOLD_ACT}}, server={"port": port}):
            assert "is unknown" in (await own.hear())["error"]["message"]
        assert await asyncio.wait_for(own.stderr.readline(), BOUND) == b"broker connect: The broker answers again.\n"
        own.say(INITIALIZE)
        assert b"unknown" in await own.stderr.readline()
        assert b"Trying again." in await asyncio.wait_for(own.stderr.readline(), BOUND)
        status, out, _ = await asyncio.wait_for(own.leave(), 10)
    assert (status, out) == (0, b"")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_client_lives_through_a_restart_of_the_broker(
    tmp_path: Path, effects: Path, features_url: str, era: str, transport: str
) -> None:
    upstream = {"url": features_url} if transport == "http" else features_stdio(effects)
    upstreams = {"one": {**upstream, "policy": POLICY}}
    port = free_port()
    line = {"line": f"restarted {era} {transport}"}
    async with playing(tmp_path, upstreams, server={"port": port}) as scene:
        agent = await scene.agent()
        opening = client(agent, "one", era)
        own = await opening.__aenter__()
        try:
            held = asyncio.ensure_future(own.call_tool("append_line", line))
            approval = await scene.submitted(agent)
        except BaseException:
            await opening.__aexit__(None, None, None)
            raise
    try:
        stopped = await asyncio.wait_for(held, BOUND)
        assert stopped.is_error
        assert told(stopped)["status"] == "pending"
        early = asyncio.ensure_future(own.call_tool("echo", {"text": "early"}))
        async with playing(tmp_path, upstreams, server={"port": port}) as scene:
            assert text(await asyncio.wait_for(early, BOUND)) == "early"
            echoes = await asyncio.gather(*(own.call_tool("echo", {"text": str(number)}) for number in range(9)))
            assert [text(echo) for echo in echoes] == [str(number) for number in range(9)]
            again = asyncio.ensure_future(own.call_tool("append_line", line))
            await scene.recorded(agent, "approval.resumed")
            await scene.decide(approval)
            assert told(await asyncio.wait_for(again, BOUND))["approval_id"] == approval
    finally:
        await opening.__aexit__(None, None, None)
    assert effects.read_text().splitlines().count(line["line"]) == 1  # noqa: ASYNC240 - a few bytes


# -- a session that is over -------------------------------------------------------------------------------------------


async def test_many_requests_that_find_their_session_over_open_one_other(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    asked, overtaken = asyncio.Event(), list[bool]()

    async def confirm(message: Message) -> Response:
        asked.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), 0.5)
        overtaken.append(asked.is_set())
        return Response(status_code=202)

    async def listed(message: Message) -> Response:
        asked.set()
        return result(message, {"tools": server.tools})

    server.on = {"notifications/initialized": confirm, "tools/list": listed}
    async with bridge(agent.url, agent.token, "one") as own:
        await own.open()
        assert "result" in await own.ask(LIST)
        server.sessions.clear()
        server.sessions.add("of others")
        own.say(*({**LIST, "id": number} for number in range(10)))
        answers = [await own.hear() for _ in range(10)]
    assert {one["id"] for one in answers} == set(range(10))
    assert all(one["result"]["tools"] for one in answers)
    methods = [message["method"] for message in server.seen]
    assert (methods.count("initialize"), methods.count("notifications/initialized")) == (2, 2)
    again = [message for message in server.seen if message["method"] == "initialize"]
    assert again[0] == again[1]
    assert overtaken == [False, False]


async def test_a_session_that_cannot_be_opened_again_is_told(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    async with bridge(agent.url, agent.token, "one") as own:
        await own.open()
        assert "result" in await own.ask(LIST)
        await small.revoke(agent)
        server.sessions.clear()
        async with asyncio.timeout(BOUND):
            while "revoked" not in (refused := await own.ask(LIST)).get("error", {}).get("message", ""):
                pass
        assert refused["id"] == LIST["id"]


async def test_what_a_session_was_asked_for_is_asked_of_the_next_one_first(small: Scene, server: Scripted) -> None:
    agent = await small.agent()

    async def done(message: Message) -> Response:
        return result(message, {}) if message["params"].get("uri") != "x:bad" else said_no(message)

    def said_no(message: Message) -> Response:
        body = {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32602, "message": "no"}}
        return Response(json.dumps(body), media_type="application/json")

    def ask(number: int, method: str, **params: str) -> Message:
        return {"jsonrpc": "2.0", "id": f"q{number}", "method": method, "params": params}

    server.on = dict.fromkeys(("logging/setLevel", "resources/subscribe", "resources/unsubscribe"), done)
    told_before = [
        ask(0, "logging/setLevel", level="debug"),
        ask(1, "resources/subscribe", uri="x:left"),
        ask(2, "resources/subscribe", uri="x:kept"),
        ask(3, "resources/subscribe", uri="x:bad"),
        ask(4, "resources/unsubscribe", uri="x:left"),
        ask(5, "logging/setLevel", level="error"),
    ]
    async with bridge(agent.url, agent.token, "one") as own:
        await own.open()
        for message in told_before:
            assert (await own.ask(message))["id"] == message["id"]
        for lost in range(2):
            server.sessions.clear()
            server.sessions.add(f"of others {lost}")
            server.seen.clear()
            own.say(LIST, {**LIST, "id": 3})
            assert {(await own.hear())["id"], (await own.hear())["id"]} == {2, 3}
            since = next(at for at, message in enumerate(server.seen) if message["method"] == "initialize")
            assert [message["method"] for message in server.seen[since:][:2]] == ["initialize", INITIALIZED["method"]]
            assert sorted(server.seen[since + 2 : since + 4], key=str) == [told_before[2], told_before[5]]
            assert {message["method"] for message in server.seen[since + 4 :]} == {"tools/list"}
        assert (await own.ask(INITIALIZE))["id"] == INITIALIZE["id"]
        own.say(INITIALIZED)
        server.sessions.clear()
        server.sessions.add("of yet others")
        server.seen.clear()
        assert (await own.ask(LIST))["id"] == LIST["id"]
    assert "resources/subscribe" not in [message["method"] for message in server.seen]  # another session's wishes


# -- a connection that breaks -----------------------------------------------------------------------------------------


class Breaking:
    """A server in place of the broker that breaks the first connection of every method off, after reading it whole."""

    def __init__(self, begins: bytes = b"") -> None:
        self.begins = begins
        self.seen = list[str]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await read_http(reader)
        if not head[0].startswith("POST"):
            return
        message = json.loads(body)
        self.seen.append(message["method"])
        if self.seen.count(message["method"]) > 1 or message["method"] == "initialize":
            respond(writer, answer(message))
        elif self.begins:
            writer.write(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\n" + self.begins)


@pytest.mark.parametrize("begins", [b"", b": held\r\n\r\n"], ids=["before the answer", "in the answer"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_tool_call_is_never_sent_twice_and_a_list_is(begins: bytes, era: str) -> None:
    broken = Breaking(begins)
    call, listed = (CALL, LIST) if era == "legacy" else (tool_call("act"), modern("tools/list"))
    async with instead_of_a_broker(broken) as url, bridge(url, "bg_x", "one") as own:
        told_so = await own.ask(call)
        assert (decision(told_so)["status"], decision(told_so)["retry"]) == ("interrupted", "check")
        assert "repeat the identical call" in told_so["result"]["content"][0]["text"]
        assert (await own.ask(listed))["result"] == {}
        assert "error" in await own.ask({**listed, "method": "x/unheard"})  # nobody knows what it does
    assert broken.seen.count("tools/call") == 1
    assert broken.seen.count("tools/list") == 2
    assert broken.seen.count("x/unheard") == 1


async def test_an_answer_that_ended_early_is_resumed_where_its_events_have_ids() -> None:
    """2025-11-25, Resumability and Redelivery: a server may close a stream at any time and be polled."""
    places = list[str | None]()

    async def poll(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await read_http(reader)
        note: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"at": len(places)}}
        if head[0].startswith("POST"):
            message = json.loads(body)
            if message["method"] == "tools/call":
                respond(writer, b"id: p1\nretry: 100\ndata:\n\n")
            elif message["method"] == "initialize":
                respond(writer, answer(message, {"protocolVersion": "2025-11-25"}), "mcp-session-id: s1")
            else:
                respond(writer, b"", status=202)
        elif head[0].startswith("GET") and field(head, "last-event-id"):
            places.append(field(head, "last-event-id"))
            assert field(head, "mcp-session-id") == "s1"
            last = answer(CALL, DONE) if len(places) == 3 else note
            respond(writer, f"id: p{len(places) + 1}\ndata: {json.dumps(last)}\n\n".encode())
        else:
            respond(writer, b"", status=405)

    async with instead_of_a_broker(poll) as url, bridge(url, "bg_x", "one") as own:
        await own.open()
        own.say(CALL)
        notes = [(await own.hear())["params"]["at"] for _ in range(2)]
        assert (await own.hear())["result"] == DONE
    assert (notes, places) == ([0, 1], ["p1", "p2", "p3"])


class Beginning:
    """A server in place of the broker that begins its answers, and breaks them off once it may.

    Args:
        resuming: the statuses that one who asks for the rest gets, one after the other; there is no rest.
    """

    def __init__(self, *resuming: int) -> None:
        self.resuming = resuming
        self.begun, self.breaks = asyncio.Semaphore(0), asyncio.Event()
        self.sessions = 0
        self.resumed = list[tuple[str | None, str | None]]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await read_http(reader)
        place, session = field(head, "last-event-id"), field(head, "mcp-session-id")
        if place is not None:
            self.resumed.append((place, session))
            asked = [one for one, _ in self.resumed].count(place)
            respond(writer, b"", status=self.resuming[asked - 1])
        elif body:
            await self._take(json.loads(body), session, writer)
        else:
            respond(writer, b"", status=405)

    async def _take(self, message: Message, session: str | None, writer: asyncio.StreamWriter) -> None:
        match message["method"]:
            case "initialize":
                self.sessions += 1
                opened = f"mcp-session-id: s{self.sessions}"
                respond(writer, answer(message, {"protocolVersion": "2025-11-25"}), opened)
            case "tools/list" if session == "s2":
                respond(writer, answer(message))
            case "tools/list":
                respond(writer, b"", status=404)
            case "tools/call" | "x/unheard":
                respond(writer, f"id: {message['id']}\nretry: 100\ndata:\n\n".encode())
                self.begun.release()
                await self.breaks.wait()
            case _:
                respond(writer, b"", status=202)


@pytest.mark.parametrize("resuming", [(), (401,), (403,), (404,), (405,), (503,), (302,), (200, 404)], ids=str)
async def test_what_was_sent_may_have_run_however_its_answer_cannot_be_resumed(resuming: tuple[int, ...]) -> None:
    broker = Beginning(*resuming)
    async with AsyncExitStack() as serving:
        url = await serving.enter_async_context(instead_of_a_broker(broker))
        async with bridge(url, "bg_x", "one", "--wait", "1s") as own:
            await own.open()
            own.say(CALL, {**CALL, "id": 2, "method": "x/unheard"})
            for _ in range(2):
                await asyncio.wait_for(broker.begun.acquire(), BOUND)
            if not resuming:
                await serving.aclose()
            broker.breaks.set()
            heard = {one["id"]: one for one in (await own.hear(), await own.hear())}
            error = (await own.leave())[2]
    sentence, other = heard[1]["result"]["content"][0]["text"], heard[2]["error"]["message"]
    assert (decision(heard[1])["status"], decision(heard[1])["retry"]) == ("interrupted", "check")
    assert "may or may not have run" in sentence
    assert "othing ran" not in sentence + other
    ended = resuming in ((401,), (403,))
    assert ["The grant ended" in told_so for told_so in (sentence, other, error)] == [ended] * 3
    assert ("repeat the identical call" in sentence) is not ended
    assert Counter(place for place, _ in broker.resumed) == {place: len(resuming) for place in ("1", "2") if resuming}


async def test_an_answer_is_resumed_in_the_session_that_it_belongs_to() -> None:
    """In another one, `GET` would listen to what that server says of its own accord, and wait for ever."""
    broker = Beginning(404)
    async with instead_of_a_broker(broker) as url, bridge(url, "bg_x", "one") as own:
        await own.open()
        own.say(CALL)
        await asyncio.wait_for(broker.begun.acquire(), BOUND)
        assert "result" in await own.ask(LIST)
        assert broker.sessions == 2
        broker.breaks.set()
        assert decision(await own.hear())["status"] == "interrupted"
    assert broker.resumed == [("1", "s1")]


async def test_keep_alive_comments_say_nothing(small: Scene) -> None:
    agent = await small.agent()
    async with bridge(agent.url, agent.token, "one") as own:
        await own.open()
        own.say(CALL, LIST)
        assert (await own.hear())["id"] == LIST["id"]
        await small.review(agent)
        assert decision(await own.hear())["status"] == "approved"


async def test_an_initialize_that_was_not_confirmed_is_not_confirmed_for_the_client(
    small: Scene, server: Scripted
) -> None:
    agent = await small.agent()
    async with bridge(agent.url, agent.token, "one") as own:
        await own.ask(INITIALIZE)
        server.sessions.clear()
        server.sessions.add("of others")
        assert "result" in await own.ask(LIST)
        assert INITIALIZED["method"] not in [message["method"] for message in server.seen]
