"""The attack on redaction: a secret goes every way through the broker, and then all that it left is searched for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from broker.domain.approvals import Decision
from broker.domain.people import Person, Role
from broker.store import audit, people
from broker.store.people import CredentialKind
from tests.cli.conftest import Shell
from tests.gateway.scene import APPROVER, Agent, Scene, block, playing, tool_call
from tests.servers.scripted import Message, Scripted, result, said, tool
from tests.store.dump import whole_store

SECRET = "correcthorsebatterystaple"
PLAIN = "whateverybodymaysee"
SECOND = Person("second@example.com", frozenset({Role.APPROVER, Role.AUDITOR}))
POLICY: dict[str, Any] = {
    "default": "deny",
    "redact": ["args.password", "args.items[*].secret"],
    "tools": {
        "allowed": {},
        "denied": {"action": "deny"},
        "limited": {"limits": [{"counter": "few", "window": "hour", "max": 1}]},
        "broken": {"deny_if": [{"path": "args.password", "op": "gt", "value": 3}]},
        "confused": {"when": "args.password > 3 && args.items[0].secret > 3"},
        "held": {
            "require": [{"path": "args.items", "op": "exists", "value": True}],
            "deny_if": [{"path": "args.items[0]", "op": "eq", "value": {"secret": 1}}],
            "approve_if": [{"path": "args.password", "op": "contains", "value": "horse"}],
            "when": "args.password.startsWith('correct') && size(args.items) > 1",
        },
        "both": {"action": "hold", "approval": {"quorum": 2}},
        "brief": {"action": "hold", "approval": {"timeout": "1s"}},
        "lonely": {"action": "hold", "approval": {"approvers": ["nobody@example.com"]}},
    },
}


@dataclass
class Searched:
    """A broker that was told a secret, and everything that it says afterwards."""

    scene: Scene
    agent: Agent
    shell: Shell
    url: str
    events: bytearray = field(default_factory=bytearray)
    times: int = 0

    async def call(self, name: str) -> Any:
        """A call that no earlier one is like, with the secret in it."""
        self.times += 1
        hidden = {"password": SECRET, "items": [{"secret": SECRET}, {"secret": [SECRET]}]}
        return await self.agent.call("one", name, {**hidden, "note": PLAIN, "nth": self.times})

    async def refused(self, name: str) -> str:
        """What the agent is told of a call that does not run."""
        return block(await (await self.call(name)).message())["status"]

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
        commands += ["approvals list --state all", *(f"approvals show {each}" for each in approvals)]
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


@pytest.fixture
async def searched(tmp_path: Path, store_url: str, server: Scripted) -> AsyncGenerator[Searched]:
    """A broker on each kind of store."""
    store_url = store_url.replace("postgresql+psycopg", "postgresql")  # as it is written in settings
    server.tools = [tool(name) for name in POLICY["tools"]]
    (tmp_path / "broker.toml").write_text(
        f'[server]\nsecret = "file:broker.secret"\n[store]\nurl = {json.dumps(store_url)}\n'
        f'[upstreams.one]\nurl = "{server.url}"\n'
    )
    async with playing(tmp_path, {"one": {"url": server.url, "policy": POLICY}}, store=store_url) as scene:
        await scene.person(SECOND)
        searched = Searched(scene, await scene.agent(), Shell(tmp_path), store_url)
        listening = asyncio.ensure_future(searched.listen())
        yield searched
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


def leaks(said: dict[str, str]) -> list[str]:
    return [where for where, text in said.items() if SECRET in text]


async def test_a_secret_that_the_policy_redacts_is_nowhere_but_in_the_call_that_runs(
    searched: Searched, server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scene, agent = searched.scene, searched.agent
    ran = ["allowed", "limited"]
    await (await searched.call("allowed")).message()
    await (await searched.call("limited")).message()
    assert await searched.refused("limited") == "limited"
    for name in ("denied", "broken", "confused", "lonely"):
        assert await searched.refused(name) == "denied"

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
    for person in (APPROVER, SECOND):
        await scene.broker.approvals.reviews.review(pending[1], person, Decision.APPROVE, channel="api")
    assert block(await both.message())["status"] == "approved"
    ran += ["held", "both"]
    rejected = await searched.call("held")
    await scene.review(agent, Decision.REJECT, nth=3)
    assert block(await rejected.message())["status"] == "rejected"
    assert await searched.refused("brief") == "expired"
    left = await searched.call("held")
    await scene.submitted(agent, 5)

    assert [call["params"]["name"] for call in server.calls] == ran
    assert all(json.dumps(call).count(SECRET) == 3 for call in server.calls)
    await scene.recorded(agent, "call.answered", 2)
    said = await searched.said()
    assert leaks(said | {"log": caplog.text}) == []
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
