"""The attack on redaction: secrets go every way through the broker, and then all that it left is searched for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from broker.approvals.sweeps import sweep
from broker.domain.approvals import Decision
from broker.domain.people import Person, Role
from broker.store import audit, people
from broker.store.people import CredentialKind
from tests.cli.conftest import Shell
from tests.clock import MovableClock
from tests.gateway.scene import APPROVER, Agent, Bare, Scene, block, playing, tool_call
from tests.servers import BOUND
from tests.servers.scripted import Message, Scripted, result, said, tool
from tests.store.dump import whole_store

SECRET = "correcthorsebatterystaple"
NUMBER = 918273645546372819
SHORT = "\u0416\u0407"  # two bytes of Latin-1 would be found by chance in any file
HIDDEN = (SECRET, "keythatnobodysees", str(NUMBER), SHORT, json.dumps(SHORT)[1:-1], SHORT.encode().decode("latin-1"))
"""What the policy redacts of every call, in every spelling."""

PLAIN = "whateverybodymaysee"
SECOND = Person("second@example.com", frozenset({Role.APPROVER, Role.AUDITOR}))
THIRD = Person("third@example.com", frozenset({Role.APPROVER}))
ROOT = Person("root@example.com", frozenset({Role.ADMIN}))
POLICY: dict[str, Any] = {
    "default": "deny",
    "redact": ["args.password", "args.items[*].secret", "args.vault", "args.short"],
    "tools": {
        "allowed": {},
        "erring": {},
        "denied": {"action": "deny"},
        "limited": {"limits": [{"counter": "few", "window": "hour", "max": 1}]},
        "summed": {"limits": [{"counter": "sum", "window": "hour", "max": 10, "add": "args.items[2].secret"}]},
        "broken": {"deny_if": [{"path": "args.password", "op": "gt", "value": 3}]},
        "confused": {"when": "args.password > 3 && args.items[0].secret > 3"},
        "converted": {"when": "int(args.password) > 3 && args.vault[args.password] == args.short"},
        "held": {
            "require": [{"path": "args.items", "op": "exists", "value": True}],
            "deny_if": [{"path": "args.items[0]", "op": "eq", "value": {"secret": 1}}],
            "approve_if": [{"path": "args.password", "op": "contains", "value": "horse"}],
            "when": "args.password.startsWith('correct') && size(args.items) > 1",
        },
        "both": {
            "action": "hold",
            "approval": {
                "approvers": [APPROVER.email, THIRD.email],
                "quorum": 2,
                "escalate": {"after": "5m", "to": [SECOND.email]},
            },
        },
        "brief": {"action": "hold", "approval": {"timeout": "1s"}},
        "cut": {"action": "hold"},
        "lonely": {"action": "hold", "approval": {"approvers": ["nobody@example.com"]}},
    },
}


@dataclass
class Searched:
    """A broker that was told secrets, and everything that it says afterwards."""

    scene: Scene
    agent: Agent
    shell: Shell
    url: str
    clock: MovableClock
    events: bytearray = field(default_factory=bytearray)
    listens: asyncio.Event = field(default_factory=asyncio.Event)
    times: int = 0

    async def call(self, name: str) -> Bare:
        """A call that no earlier one is like, with the secrets in it."""
        self.times += 1
        return await self.again(name)

    async def again(self, name: str) -> Bare:
        """The same call as the last."""
        items: list[Any] = [{"secret": SECRET}, {"secret": [SECRET]}, {"secret": NUMBER}]
        hidden = {"password": SECRET, "items": items, "vault": {"keythatnobodysees": {"pin": NUMBER}}, "short": SHORT}
        return await self.agent.call("one", name, {**hidden, "note": PLAIN, "nth": self.times})

    async def refused(self, name: str) -> str:
        """What the agent is told of a call that does not run."""
        return block(await (await self.call(name)).message())["status"]

    async def after(self, **length: float) -> None:
        """Let time pass, and do what it does."""
        self.clock.advance(timedelta(**length))
        await sweep(self.scene.broker.approvals)

    async def said(self) -> dict[str, str]:
        """All that the pages, the API and the commands say, and all that the store holds."""
        broker = self.scene.broker
        approvals = {row.approval_id for row in self.scene.rows}
        rows = range(1, (await broker.store.read(audit.head)).seq + 1)
        api = "/api/v1"
        addresses = ["/", "/audit", *(f"/audit/{seq}" for seq in rows), f"{api}/approvals", f"{api}/audit"]
        addresses += [f"{api}/audit/export?format={each}" for each in ("jsonl", "csv")]
        addresses += [f"{place}/approvals/{each}" for each in approvals for place in ("", api)]
        cookies = {"broker_session": await self._secret(CredentialKind.SESSION)}
        said = {address: await self._page(address, cookies) for address in addresses}
        commands = ["audit search --limit 1000", "audit search --limit 1000 --json", "audit export", "audit verify"]
        commands += [f"approvals show {each}" for each in approvals]
        commands += [f"approvals {each}{form}" for each in ("list --state all", "list") for form in ("", " --json")]
        commands.append(
            f"approvals show {self.scene.rows[0].approval_id} --json"
        )  # what it prints of each is the API's, fetched above
        door = {"BROKER_URL": broker.url, "BROKER_TOKEN": await self._secret(CredentialKind.TOKEN)}
        for command in commands:
            done = await asyncio.to_thread(self.shell.run, *command.split(), **door)
            assert done.status == 0, done.stderr
            said[command] = done.stdout + done.stderr
        return {**said, "events": self.events.decode(), "store": await asyncio.to_thread(whole_store, self.url)}

    async def _page(self, address: str, cookies: dict[str, str]) -> str:
        async with self.scene.http.get(self.scene.broker.url + address, cookies=cookies) as answer:
            assert answer.status == 200, address
            return await answer.text()

    async def _secret(self, kind: CredentialKind) -> str:
        hour = timedelta(hours=1)
        new = await self.scene.broker.store.write(
            lambda tx: people.issue(tx, "cli:test", kind, SECOND.email, lifetime=hour)
        )
        return new.secret

    async def listen(self) -> None:
        """Keep what the stream of events says, until cancelled."""
        fields = {"Authorization": f"Bearer {await self._secret(CredentialKind.TOKEN)}"}
        async with self.scene.http.get(f"{self.scene.broker.url}/api/v1/events", headers=fields) as answer:
            async for piece in answer.content.iter_any():
                self.events.extend(piece)
                self.listens.set()


async def repeat(message: Message) -> Response:
    """Answer a call with all that it said."""
    arguments = message["params"]["arguments"]
    match message["params"]["name"]:
        case "cut":
            return Response(b": that was all\n\n", media_type="text/event-stream")
        case "erring":
            error = {"code": -32000, "message": f"cannot do {SECRET} {SHORT}", "data": arguments}
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error})
        case _:
            return said(message, f"did {json.dumps(arguments)} with {SHORT}", structuredContent=arguments)


@pytest.fixture
def every_logger(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What every logger there is says from now on, down to the least."""
    caplog.set_level(logging.DEBUG)
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    before = [(each, each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
        each.propagate = True
    yield caplog
    for each, level, propagate in before:
        each.setLevel(level)
        each.propagate = propagate


@pytest.fixture
async def searched(
    tmp_path: Path, store_url: str, server: Scripted, clock: MovableClock, every_logger: pytest.LogCaptureFixture
) -> AsyncGenerator[Searched]:
    """A broker on each kind of store."""
    assert every_logger.handler.level == logging.DEBUG  # before the broker: engines look at their loggers when made
    store_url = store_url.replace("postgresql+psycopg", "postgresql")  # as it is written in settings
    server.tools = [tool(name) for name in POLICY["tools"]]
    server.on["tools/call"] = repeat
    (tmp_path / "broker.toml").write_text(
        f'[server]\nsecret = "file:broker.secret"\n[store]\nurl = {json.dumps(store_url)}\n'
        f'[upstreams.one]\nurl = "{server.url}"\n'
    )
    upstreams = {"one": {"url": server.url, "policy": POLICY}}
    async with playing(tmp_path, upstreams, store=store_url, clock=clock) as scene:
        for person in (SECOND, THIRD, ROOT):
            await scene.person(person)
        searched = Searched(scene, await scene.agent(), Shell(tmp_path), store_url, clock)
        listening = asyncio.ensure_future(searched.listen())
        await asyncio.wait_for(searched.listens.wait(), BOUND)
        yield searched
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


def leaks(said: dict[str, str]) -> list[tuple[str, str]]:
    return [(where, hidden) for where, text in said.items() for hidden in HIDDEN if hidden in text]


async def pass_and_refuse(searched: Searched) -> None:
    """Calls that are never held."""
    answer = json.dumps(await (await searched.call("allowed")).message())
    assert SECRET in answer  # nothing is masked for the agent itself
    for name in ("erring", "limited"):
        await (await searched.call(name)).message()
    assert await searched.refused("limited") == "limited"
    for name in ("summed", "denied", "broken", "confused", "converted", "lonely"):
        assert await searched.refused(name) == "denied", name


async def leave_and_come_back(searched: Searched) -> None:
    """The agent hangs up, asks for the same again, and gets its answer."""
    scene, agent = searched.scene, searched.agent
    left = await searched.call("held")
    approval = await scene.submitted(agent, 3)
    left.leave()
    await scene.happened("approval.abandoned", agent)
    back = await searched.again("held")
    await scene.happened("approval.resumed", agent)
    await scene.decide(approval)
    assert block(await back.message())["status"] == "approved"


async def wait_long(searched: Searched, both: Bare) -> None:
    """A call is escalated and reminded of before two people decide it."""
    scene, agent = searched.scene, searched.agent
    for minutes in (5, 3, 6):
        await searched.after(minutes=minutes)
    await scene.happened("approval.reminded", agent, 2)
    approval = await scene.submitted(agent, 2)
    for person in (APPROVER, SECOND):
        await scene.broker.approvals.reviews.review(approval, person, Decision.APPROVE, channel="api")
    assert block(await both.message())["status"] == "approved"


async def end(searched: Searched) -> None:
    """Calls that do not run, and one that is cut off."""
    scene, agent, reviews = searched.scene, searched.agent, searched.scene.broker.approvals.reviews
    rejected = await searched.call("held")
    await scene.review(agent, Decision.REJECT, nth=4)
    assert block(await rejected.message())["status"] == "rejected"
    assert block(await (await searched.again("held")).message())["status"] == "rejected"
    await reviews.forget(await scene.submitted(agent, 4), ROOT)
    withdrawn = await searched.again("held")
    await reviews.withdraw(await scene.submitted(agent, 5), ROOT)
    assert block(await withdrawn.message())["status"] == "withdrawn"
    brief = await searched.call("brief")
    await scene.submitted(agent, 6)
    await searched.after(seconds=1)
    assert block(await brief.message())["status"] == "expired"
    cut = await searched.call("cut")
    await scene.review(agent, nth=7)
    assert block(await cut.message())["status"] == "interrupted"


async def test_a_secret_that_the_policy_redacts_is_nowhere_but_in_the_call_that_runs(
    searched: Searched, server: Scripted, every_logger: pytest.LogCaptureFixture
) -> None:
    scene, agent = searched.scene, searched.agent
    await pass_and_refuse(searched)
    held, both = await searched.call("held"), await searched.call("both")
    pending = [await scene.submitted(agent, nth) for nth in (1, 2)]
    said = await searched.said()
    assert leaks(said) == []
    for approval in pending:
        shown = [f"/approvals/{approval}", f"/api/v1/approvals/{approval}", f"approvals show {approval}", "store"]
        assert all(PLAIN in said[where] and "[redacted]" in said[where] for where in shown)
    assert pending[0] in said["events"]

    await scene.decide(pending[0])
    assert block(await held.message())["status"] == "approved"
    await leave_and_come_back(searched)
    await wait_long(searched, both)
    await end(searched)
    ran = ["allowed", "erring", "limited", "held", "held", "both", "cut"]
    assert [call["params"]["name"] for call in server.calls] == ran
    assert all(json.dumps(call).count(SECRET) == 3 for call in server.calls)

    left = await searched.call("held")
    await scene.submitted(agent, 8)
    await scene.recorded(agent, "call.answered", 3)
    said = await searched.said()
    assert "did {" in said["store"]  # what servers answered is kept
    assert len(every_logger.records) > len(ran)
    assert leaks(said | {"log": every_logger.text}) == []
    left.leave()


async def test_why_a_call_is_held_is_told_by_page_program_and_terminal_without_the_secret(searched: Searched) -> None:
    held = await searched.call("held")
    approval = await searched.scene.submitted(searched.agent)
    said = await searched.said()
    shown = json.loads(said[f"/api/v1/approvals/{approval}"])
    telling = {step["rule"]: step for step in shown["explanation"]}["tools.held.approve_if[0]"]
    assert telling["said"] == "holds"
    assert "[redacted]" in telling["saw"]
    assert telling["saw"].replace('"', "&#34;") in said[f"/approvals/{approval}"]
    lines = said[f"approvals show {approval}"].splitlines()
    assert "  tools.held.approve_if[0]  holds" in lines
    assert f"    saw {telling['saw']}" in lines
    held.leave()


async def test_what_a_tool_asks_of_its_agent_and_what_that_answers_is_kept_nowhere(
    searched: Searched, server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the tool gives what is redacted back in its question and its state, as servers without a memory do."""
    caplog.set_level(logging.DEBUG)
    scene, agent = searched.scene, searched.agent

    async def ask(message: Message) -> Response:
        if "requestState" in message["params"]:
            return said(message)
        wanted = {"sure": {"method": "elicitation/create", "params": {"message": f"Is it {SECRET}?"}}}
        return result(message, {"resultType": "input_required", "inputRequests": wanted, "requestState": SECRET})

    server.on["tools/call"] = ask
    hidden = {"password": SECRET, "items": [{"secret": SECRET}, {}], "note": PLAIN}
    for name in ("held", "allowed"):
        asking = await agent.call("one", name, hidden)
        if name == "held":
            await scene.review(agent)
        assert (await asking.message())["result"]["requestState"] == SECRET
        assert SECRET not in whole_store(searched.url)
        again = tool_call(name, hidden)
        again["params"] |= {"requestState": SECRET, "inputResponses": {"sure": {"content": {"word": SECRET}}}}
        assert (await (await agent.send("one", again)).message())["result"]["content"][0]["text"] == "done"
        assert server.calls[-1]["params"] == again["params"]
        refused = await agent.send("one", {**again, "params": {**again["params"], "name": "both"}})
        assert block(await refused.message())["cause"] == "input"
    await scene.recorded(agent, "call.answered", 2)
    left = whole_store(searched.url)
    assert PLAIN in left
    assert SECRET not in left + caplog.text + searched.events.decode()
