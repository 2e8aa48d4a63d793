"""What comes in at `/mcp/{upstream}`: who may, and what is one whole message."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway.scene import CLIENT, Agent, Scene, modern, tool_call
from tests.servers import TRANSPORTS
from tests.servers.scripted import Scripted

ECHO = tool_call("echo", {"text": "hello"})
LARGEST = 4 * 1024 * 1024


def code(answer: dict[str, Any]) -> int:
    return answer["error"]["code"]


# -- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer bg_unknown", "Basic Ym9zczpib3Nz", "bg_unknown", "Bearer \xe9"],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_without_a_known_grant_nobody_comes_in(agent: Agent, authorization: str | None, method: str) -> None:
    body = ECHO if method == "POST" else None
    answer = await agent.send("open-http", body, {"Authorization": authorization}, method=method)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "grant" in (await answer.message())["error"]["message"]


async def test_an_expired_grant_is_none(scene: Scene) -> None:
    late = await scene.agent(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    answer = await late.send("open-http", ECHO)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_revoked_grant_is_none_within_a_second(scene: Scene, agent: Agent) -> None:
    assert (await agent.send("open-http", ECHO)).status == 200
    await scene.revoke(agent)
    since = datetime.now(UTC)
    while (answer := await agent.send("open-http", ECHO)).status == 200:
        assert datetime.now(UTC) - since < timedelta(seconds=1)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_the_token_of_a_grant_counts_whatever_the_case_of_its_scheme(agent: Agent) -> None:
    assert (await agent.send("open-http", ECHO, {"Authorization": f"bearer {agent.token}"})).status == 200


async def test_a_token_in_the_address_is_none(agent: Agent) -> None:
    url = f"{agent.at('open-http')}?access_token={agent.token}"
    async with agent.http.post(url, json=ECHO) as answer:
        assert answer.status == 401


async def test_a_grant_counts_for_its_own_upstreams_only(scene: Scene) -> None:
    agent = await scene.agent("open-stdio")
    answer = await agent.send("open-http", ECHO)
    assert answer.status == 403
    assert "open-http" in (await answer.message())["error"]["message"]


@pytest.mark.parametrize("name", ["nothing", "open-http/", "open-http/more", ""])
async def test_an_upstream_that_is_not_there_is_404(agent: Agent, name: str) -> None:
    assert (await agent.send(name, ECHO)).status == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "[::1]"])
async def test_a_foreign_host_is_refused(agent: Agent, host: str) -> None:
    assert (await agent.send("open-http", ECHO, {"Host": host})).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", ""])
async def test_a_foreign_origin_is_refused(agent: Agent, origin: str) -> None:
    assert (await agent.send("open-http", ECHO, {"Origin": origin})).status == 403


async def test_the_brokers_own_origin_is_not_refused(agent: Agent) -> None:
    assert (await agent.send("open-http", ECHO, {"Origin": agent.url})).status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused_and_told_which_there_are(agent: Agent, method: str) -> None:
    answer = await agent.send("open-http", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST, GET, DELETE")


# -- one whole message ------------------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    """An echo of exactly `size` bytes."""
    empty = json.dumps(tool_call("echo", {"text": ""})).encode()
    return json.dumps(tool_call("echo", {"text": "x" * (size - len(empty))})).encode()


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1 << 16):
        yield body[start : start + (1 << 16)]


HEADERS = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}


async def test_a_body_of_4_mib_passes(agent: Agent) -> None:
    answer = await agent.send("open-http", padded(LARGEST), HEADERS)
    assert answer.status == 200
    assert (await answer.message())["result"]["content"][0]["text"].startswith("xxx")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_larger_body_is_413(agent: Agent, scene: Scene, *, chunked: bool) -> None:
    body = padded(LARGEST + 1)
    answer = await agent.send("open-http", in_pieces(body) if chunked else body, HEADERS)
    assert answer.status == 413
    assert await scene.of(agent) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", -32700),
        (b"nonsense", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', -32700),
        (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}', -32700),
        (json.dumps(ECHO).encode("utf-16"), -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":NaN}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":Infinity}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1e999}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"\\ud800"}}', -32700),
        (b"[" + json.dumps(ECHO).encode() + b"]", -32600),
        (b"[]", -32600),
        (b'"ping"', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":["ping"]}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["echo"]}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":' + b"[" * 99 + b"]" * 99 + b"}}", -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":' + b"[" * 9999 + b"]" * 9999 + b"}}", -32600),
    ],
)
async def test_what_is_not_one_json_rpc_message_is_refused_and_reaches_nobody(
    small: Scene, server: Scripted, body: bytes, expected: int
) -> None:
    answer = await (await small.agent()).send("one", body)
    assert (answer.status, code(await answer.message())) == (400, expected)
    assert server.seen == []


async def test_a_message_that_nests_a_hundred_levels_passes(small: Scene, server: Scripted) -> None:
    nested: Any = []
    for _ in range(96):  # three are around it: the message, its params, the arguments
        nested = [nested]
    answer = await (await small.agent()).call("one", "look", {"deep": nested})
    assert answer.status == 200
    assert server.calls[0]["params"]["arguments"] == {"deep": nested}


async def test_of_a_key_that_is_there_twice_the_one_that_was_judged_is_sent(small: Scene, server: Scripted) -> None:
    """`look` passes and `act` is held: a parser that takes the first of two would run the other tool."""
    call = json.dumps(tool_call("look")).encode()
    body = call.replace(b'"name": "look"', b'"name": "act", "name": "look"')
    assert body != call
    agent = await small.agent()
    assert (await agent.send("one", body, HEADERS | {"Mcp-Name": "look"})).status == 200
    assert [sent["params"]["name"] for sent in server.calls] == ["look"]
    assert (await small.of(agent))[0].tool == "look"


async def test_a_method_that_is_there_twice_does_not_smuggle_a_call(small: Scene, server: Scripted) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping","params":{"name":"act","arguments":{}}}'
    await (await small.agent()).send("one", body)
    assert [sent["method"] for sent in server.seen] == ["ping"]


@pytest.mark.parametrize("number", [2**63, 2**64 + 1, -(2**80), 10**300])
async def test_integers_beyond_64_bits_arrive_exactly(small: Scene, server: Scripted, number: int) -> None:
    assert (await (await small.agent()).call("one", "look", {"number": number})).status == 200
    assert server.calls[0]["params"]["arguments"] == {"number": number}


async def test_an_approved_call_sends_integers_beyond_64_bits_exactly_too(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act", {"number": 2**70 + 1, "text": "a\0b\u202e"})
    await small.review(agent)
    assert (await held.message())["result"]["content"][0]["text"] == "done"
    assert server.calls[0]["params"]["arguments"] == {"number": 2**70 + 1, "text": "a\0b\u202e"}


# -- headers that speak of the body -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": "TOOLS/CALL"},
        {"Mcp-Method": None},
        {"Mcp-Name": "act"},
        {"Mcp-Name": None},
        {"Mcp-Name": "=?base64?YWN0?="},
        {"MCP-Protocol-Version": "2025-11-25"},
        {"MCP-Protocol-Version": None},
    ],
)
async def test_a_modern_request_whose_headers_contradict_it_is_refused(
    small: Scene, server: Scripted, headers: dict[str, str | None]
) -> None:
    answer = await (await small.agent()).send("one", tool_call("look"), headers)
    assert (answer.status, code(await answer.message())) == (400, -32020)
    assert server.calls == []


async def test_a_legacy_request_may_not_carry_a_header_that_contradicts_it(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    session = await agent.open("one")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "look"}}
    for headers in ({"Mcp-Name": "act"}, {"Mcp-Method": "tools/list"}):
        answer = await agent.send("one", call, headers, session=session)
        assert (answer.status, code(await answer.message())) == (400, -32020)
    assert server.calls == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_parameter_header_that_contradicts_the_arguments_is_refused(agent: Agent, transport: str) -> None:
    call = tool_call("label", {"text": "t", "region": "north"})
    agreeing = await agent.send(f"open-{transport}", call, {"Mcp-Param-Region": "north"})
    assert (await agreeing.message())["result"]["content"][0]["text"] == "north: t"
    contradicting = await agent.send(f"open-{transport}", call, {"Mcp-Param-Region": "south"})
    assert (contradicting.status, code(await contradicting.message())) == (400, -32020)


# -- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_session_belongs_to_the_grant_that_opened_it(scene: Scene, agent: Agent, transport: str) -> None:
    upstream = f"open-{transport}"
    session = await agent.open(upstream)
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await agent.send(upstream, ping, session=session)).status == 200
    other = await scene.agent()
    for stranger, place in ((other, upstream), (agent, "open-http" if transport == "stdio" else "open-stdio")):
        for method in ("POST", "GET", "DELETE"):
            answer = await stranger.send(place, ping if method == "POST" else None, method=method, session=session)
            assert answer.status == 404
    assert (await agent.send(upstream, ping, session=session)).status == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("session", ["invented", "mcp_1.", ".", "a" * 64 + "." + "0" * 64])
async def test_an_invented_session_is_404(agent: Agent, transport: str, session: str) -> None:
    answer = await agent.send(f"open-{transport}", {"jsonrpc": "2.0", "id": 1, "method": "ping"}, session=session)
    assert answer.status == 404


async def test_the_upstreams_own_session_id_opens_nothing(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    assert (await agent.open("one")) not in server.sessions
    for session in server.sessions:
        answer = await agent.send("one", {"jsonrpc": "2.0", "id": 1, "method": "ping"}, session=session)
        assert answer.status == 404


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_ended_session_is_404(agent: Agent, transport: str) -> None:
    upstream = f"open-{transport}"
    session = await agent.open(upstream)
    assert (await agent.send(upstream, method="DELETE", session=session)).status == 200
    answer = await agent.send(upstream, {"jsonrpc": "2.0", "id": 1, "method": "ping"}, session=session)
    assert answer.status == 404


# -- tools/call -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": None},
        {"name": ""},
        {"name": 7},
        {"name": ["look"]},
        {"name": "lo\0ok"},
        {"name": "look\n"},
        {"name": "x" * 257},
        {"name": "look", "arguments": []},
        {"name": "look", "arguments": "text"},
        {"name": "look", "arguments": 0},
        {"name": "look", "Name": "act"},
        {"name": "look", "arguments": {}, "argument\u017f": {"path": "/"}},
    ],
)
async def test_a_call_without_one_tool_or_with_arguments_that_are_not_one_object_is_refused(
    small: Scene, server: Scripted, params: dict[str, Any]
) -> None:
    agent = await small.agent()
    session = await agent.open("one")
    request = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}
    answer = await agent.send("one", request, session=session)
    said = await answer.message()
    assert (answer.status, code(said), said["id"]) == (400, -32602, 5)
    assert server.calls == []


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_that_is_sent_as_a_notification_is_not_forwarded_unjudged(
    small: Scene, server: Scripted, era: str
) -> None:
    """A server that looks at the method alone would run it."""
    agent = await small.agent()
    session = await agent.open("one") if era == "legacy" else None
    call = tool_call("act", {"secret": "effect"})
    del call["id"]
    if era == "legacy":
        del call["params"]["_meta"]
    answer = await agent.send("one", call, session=session)
    assert answer.status == 400
    assert server.calls == []


async def test_a_handshake_passes_with_its_version(agent: Agent) -> None:
    request = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {**CLIENT, "protocolVersion": "2025-03-26"}}
    answer = await agent.send("open-http", request)
    assert (await answer.message())["result"]["protocolVersion"] == "2025-03-26"


async def test_a_modern_request_to_a_session_server_gets_that_servers_own_answer(
    small: Scene, server: Scripted
) -> None:
    answer = await (await small.agent()).send("one", modern("something/new", {"x": 1}))
    assert (await answer.message())["error"] == {"code": -32601, "message": "Method not found", "data": {"kept": True}}
