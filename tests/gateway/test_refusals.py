"""What is refused at once, in which words, and what limits count."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from broker.domain.approvals import Decision
from broker.domain.people import Person, Role
from tests.gateway.scene import APPROVER, ERAS, OWNER, Agent, Scene, block, playing, text, told
from tests.servers import TRANSPORTS
from tests.servers.scripted import Scripted, scripted

LIMIT: dict[str, Any] = {"counter": "looks", "window": "hour", "max": 3}
POLICY: dict[str, Any] = {
    "default": "deny",
    "hide": ["hidden"],
    "tools": {
        "free": {},
        "look": {"limits": [{**LIMIT, "on_deny": "Three looks are enough."}]},
        "peek": {"limits": [LIMIT]},
        "all": {"limits": [{"counter": "all", "window": "hour", "max": 2, "scope": "upstream"}]},
        "act": {"action": "hold", "limits": [{"counter": "acts", "window": "hour", "max": 1}]},
        "never": {"action": "deny", "reason": "Too dangerous."},
        "unknown": {"action": "hold"},
        "nobody": {"action": "hold", "approval": {"approvers": ["no-such-group"]}},
        "two": {"action": "hold", "approval": {"quorum": 2}},
        "own": {"action": "hold", "approval": {"approvers": [OWNER]}},
    },
}
NAMES = ("free", "look", "peek", "all", "act", "never", "nobody", "two", "own", "hidden", "unlisted")


@pytest.fixture(scope="module")
async def strict_server() -> AsyncGenerator[Scripted]:
    """A server with every tool that the policy speaks of, but `unknown`."""
    async with scripted() as made:
        made.tools = [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]
        yield made


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory, strict_server: Scripted) -> AsyncGenerator[Scene]:
    """A broker with `POLICY` before it."""
    upstreams = {"one": {"url": strict_server.url, "policy": POLICY}}
    async with playing(tmp_path_factory.mktemp("strict"), upstreams) as made:
        await made.person(Person(OWNER, frozenset({Role.APPROVER})))
        yield made


@pytest.fixture
async def agent(strict: Scene, strict_server: Scripted) -> Agent:
    strict_server.seen.clear()
    return await strict.agent()


async def ask(agent: Agent, name: str) -> dict[str, Any]:
    return await (await agent.call("one", name, {"n": 1})).message()


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_a_limit_admits_exactly_as_many_of_many_at_once(
    strict: Scene, agent: Agent, strict_server: Scripted
) -> None:
    answers = await asyncio.gather(*(ask(agent, name) for name in ("look", "peek") * 10))
    refused = [answer for answer in answers if answer["result"]["isError"]]
    assert (len(refused), len(strict_server.calls)) == (17, 3)
    assert {block(answer)["status"] for answer in refused} == {"limited"}
    await strict.recorded(agent, "call.answered", 3)
    assert Counter(await strict.kinds(agent)) == {"call.allowed": 3, "call.answered": 3, "call.limited": 17}


async def test_a_limited_call_hears_which_limit_and_when_to_try_again(agent: Agent) -> None:
    for _ in range(3):
        await ask(agent, "look")
    answer = await ask(agent, "look")
    facts = block(answer)
    assert (facts["status"], facts["retry"], facts["rule"]) == ("limited", "later", "tools.look.limits[0]")
    assert facts["reason"] == "Three looks are enough."
    assert 3590 < facts["retry_after"] <= 3612  # a second to be sent in, and a bucket of ten
    assert f"Try again in {facts['retry_after']} s." in answer["result"]["content"][0]["text"]


async def test_each_grant_has_limits_of_its_own(strict: Scene, agent: Agent, strict_server: Scripted) -> None:
    other = await strict.agent()
    for _ in range(4):
        await ask(agent, "look")
        await ask(other, "look")
    assert len(strict_server.calls) == 6


async def test_a_limit_of_the_upstream_is_shared_by_every_grant(
    strict: Scene, agent: Agent, strict_server: Scripted
) -> None:
    for caller in (agent, await strict.agent(), await strict.agent()):
        await ask(caller, "all")
    assert len(strict_server.calls) == 2


async def test_a_held_call_takes_its_slot_while_it_waits_and_gives_it_back_when_it_does_not_run(
    strict: Scene, agent: Agent
) -> None:
    held = await agent.call("one", "act", {"n": 1})
    await strict.submitted(agent)
    limited = await (await agent.call("one", "act", {"n": 2})).message()
    assert block(limited)["status"] == "limited"
    await strict.review(agent, Decision.REJECT)
    assert block(await held.message())["status"] == "rejected"
    third = await agent.call("one", "act", {"n": 3})
    await strict.review(agent, nth=2)
    assert block(await third.message())["status"] == "approved"
    assert block(await (await agent.call("one", "act", {"n": 4})).message())["status"] == "limited"


# -- no ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule", "words"),
    [
        ("never", "tools.never.action", "Too dangerous."),
        ("hidden", "hide", "not available"),
        ("unlisted", "default", "does not list"),
        ("invented", "default", "does not list"),
        ("unknown", "tools.unknown.action", "no such tool"),
        ("nobody", "tools.nobody.action", "no-such-group"),
        ("own", "tools.own.action", OWNER),
    ],
)
async def test_a_call_that_may_never_run_is_denied_at_once_and_recorded(
    strict: Scene, agent: Agent, strict_server: Scripted, name: str, rule: str, words: str
) -> None:
    answer = await ask(agent, name)
    facts = block(answer)
    assert (facts["status"], facts["retry"], facts["rule"]) == ("denied", "never", rule)
    assert words in facts["reason"]
    assert answer["result"]["isError"] is True
    assert strict_server.calls == []
    [row] = await strict.of(agent)
    assert (row.kind.value, row.tool, row.rule) == ("call.denied", name, rule)


async def test_a_quorum_that_cannot_be_reached_is_denied_at_once(strict: Scene, strict_server: Scripted) -> None:
    """There are two approvers, and one of them is the owner."""
    theirs = await strict.agent(owner=APPROVER.email)
    assert block(await ask(theirs, "two"))["status"] == "denied"
    somebody = await strict.agent(owner="somebody@example.com")
    held = await somebody.call("one", "two")
    await strict.submitted(somebody)
    held.leave()


async def test_a_refused_call_takes_no_slot(agent: Agent, strict_server: Scripted) -> None:
    for _ in range(3):
        await ask(agent, "never")
        await ask(agent, "hidden")
    assert [block(await ask(agent, "never"))["status"] for _ in range(3)] == ["denied"] * 3
    assert strict_server.calls == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_real_client_reads_a_refusal_as_a_result(scene: Scene, era: str, transport: str) -> None:
    agent = await scene.agent()
    async with agent.client(f"open-{transport}", era) as client:
        denied = await client.call_tool("failing", {})
        hidden = await client.call_tool("secret", {})
        allowed = [await client.call_tool("large", {"size": size}) for size in (1, 2, 3)]
        limited = await client.call_tool("large", {"size": 4})
    assert [told(result)["status"] for result in (denied, hidden, limited)] == ["denied", "denied", "limited"]
    assert all(result.is_error for result in (denied, hidden, limited))
    assert [text(result) for result in allowed] == ["x", "xx", "xxx"]
    assert text(limited).startswith("Rate limit reached: Three are enough.")
