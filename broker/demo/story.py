"""What happens in the demo, and whether it ended as it should."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import which
from typing import Any

from broker.app import Broker, running
from broker.demo.agent import Agent, Outcome, connected_agent
from broker.demo.reviewer import REVIEWER, add_reviewer, decide, review_link
from broker.demo.stage import UPSTREAM, Stage
from broker.demo.terminal import Terminal
from broker.domain import audit
from broker.domain.answers import Status
from broker.domain.approvals import Approval, State
from broker.errors import BrokerError
from broker.store import approvals, grants
from broker.store import audit as record
from broker.store.approvals import ApprovalFilter

OWNER = "developer@example.com"
LABEL = "notes agent"
MESSAGE = "Put lunch on the agenda"

_EXPECTED = {"approve": Status.APPROVED, "reject": Status.REJECTED, "expire": Status.EXPIRED}

PENDING = ApprovalFilter(states=(State.PENDING,))

_ONWARDS = """\
1. Write broker.toml:
     [upstreams.git]
     command = ["{python}", "-m", "mcp_server_git", "--repository", "/path/to/a/repository"]
     policy = "policies/git.json"
2. {broker} user add you@example.com --role approver
3. {broker} grant create --upstream git --label "my agent" --owner somebody.else@example.com
4. {broker} serve
5. Point the MCP client at http://127.0.0.1:8750/mcp/git with the token.
6. {broker} sign-in you@example.com prints a link that opens your queue."""


async def play(stage: Stage, terminal: Terminal, ending: str | None) -> bool | None:
    """Start the broker, tell the story, stop the broker.

    Args:
        ending: how the program that decides in place of a person does it, or None for a person.

    Returns:
        Whether it ended as it should; None when it was interrupted.
    """
    async with running(stage.settings) as broker:
        told = asyncio.create_task(_Story(stage, terminal, broker, ending).tell())
        stopped = asyncio.create_task(broker.until_stopped())
        await asyncio.wait({told, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if interrupted := not told.done():
            terminal.title("Stopping.")
        elif ending is None and terminal.watched and not told.exception():
            terminal.title(f"Your queue and the audit log stay open at {broker.url}. Ctrl-C ends the demo.")
            await stopped
        for task in (told, stopped):
            task.cancel()
        await asyncio.wait({told, stopped})
        return None if interrupted else told.result()


@dataclass(frozen=True, slots=True)
class _Story:
    stage: Stage
    terminal: Terminal
    broker: Broker
    ending: str | None

    async def tell(self) -> bool:
        token = await self._prepare()
        async with connected_agent(f"{self.broker.url}/mcp/{UPSTREAM}", token) as agent:
            await self._look(agent)
            outcome = await self._commit(agent)
        as_it_should = self._check(outcome)
        await self._show_record()
        self.terminal.title("How to go on with your own server")
        # Not everybody has the environment of the demo on their PATH: what is shown works as it stands.
        here = Path(sys.executable).parent / "broker"
        self.terminal.more(_ONWARDS.format(python=sys.executable, broker="broker" if which("broker") else here))
        return as_it_should

    async def _prepare(self) -> str:
        terminal, url = self.terminal, self.broker.url
        await add_reviewer(self.broker)
        new = await self.broker.store.write(
            lambda tx: grants.create(
                tx, "cli:demo", label=LABEL, owner=OWNER, upstreams=frozenset({UPSTREAM}), expires_at=None
            )
        )
        terminal.title("The stage: everything is real, and lies in a temporary folder that is removed at the end")
        terminal.says("git", f"a repository with a staged change: {self.stage.repository.folder}")
        terminal.says("broker", f"listens at {url}; behind it is mcp-server-git, as a child process over stdio")
        terminal.says("broker", "its policy (policies/git.json): reading passes, a commit is held for a person")
        terminal.says("agent", f"an MCP client that was given {url}/mcp/{UPSTREAM} and a token; it belongs to {OWNER}")
        terminal.says("you", f"the reviewer, {REVIEWER}")
        return new.token

    async def _look(self, agent: Agent) -> None:
        self.terminal.title("A harmless call passes")
        self.terminal.says("agent", "calls git_status")
        status = await agent.call("git_status", self._arguments(), lambda _: None)
        if status.failed:
            raise BrokerError(f"The demo broke off, since git_status failed: {status.text}")
        self.terminal.says("broker", "the policy allows it: passed on at once, and recorded. The answer:")
        self.terminal.more(status.text)

    async def _commit(self, agent: Agent) -> Outcome:
        self.terminal.title("A call with an effect waits for a person")
        self.terminal.says("agent", f'calls git_commit with the message "{MESSAGE}"')
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        on_progress = partial(_keep_first, heard)
        call = asyncio.create_task(agent.call("git_commit", self._arguments(message=MESSAGE), on_progress))
        try:
            await asyncio.wait({heard, call}, return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                raise BrokerError(f"The demo broke off, since git_commit was not held: {call.result().text}")
            approval = await self._held()
            self.terminal.says("broker", f"holds it: {approval.reason or approval.rule}. Nothing runs.")
            self.terminal.says("agent", "waits, and is told as MCP progress:")
            self.terminal.more(heard.result().rpartition(": ")[0])  # without its link, which signs nobody in
            outcome = await self._review(approval, call)
            self._tell_end(await self._ended(approval.id), outcome)
            return outcome
        finally:
            call.cancel()

    async def _held(self) -> Approval:
        return (await self.broker.store.read(lambda session: approvals.page(session, PENDING)))[0]

    async def _review(self, approval: Approval, call: asyncio.Task[Outcome]) -> Outcome:
        match self.ending:
            case None:
                link = await review_link(self.broker, approval.id, self.stage.timeout)
                self.terminal.says("you", "decide. Open this link, look at what will run, and approve or reject it:")
                self.terminal.note(link)
                waiting_for = "Waiting for you"
            case "expire":
                self.terminal.says("you", "do nothing")
                waiting_for = "Waiting for nobody"
            case decision:
                self.terminal.says("you", f"{decision} (here a program does, through the HTTP API)")
                await decide(self.broker, approval.id, decision)
                waiting_for = "Waiting for the answer"
        async with self.terminal.waiting(waiting_for, approval.deadline):
            return await call

    async def _ended(self, approval_id: str) -> Approval:
        told: asyncio.Queue[Approval | None] = asyncio.Queue()
        with self.broker.feed.waiter(approval_id, told.put_nowait):
            while (approval := await told.get()) is None or not approval.state.final:
                pass
        return approval

    def _tell_end(self, approval: Approval, outcome: Outcome) -> None:
        self.terminal.title("The end")
        self.terminal.says("broker", _how_it_ended(approval))
        ran = approval.state in (State.SUCCEEDED, State.FAILED)
        self.terminal.says("agent", "gets the git server's own result:" if ran else "is told:")
        self.terminal.more(outcome.text)
        self.terminal.says("git", "the log now, newest first:")
        self.terminal.more("\n".join(self.stage.repository.commits()))

    def _check(self, outcome: Outcome) -> bool:
        status = outcome.decision.get("status")
        committed = MESSAGE in self.stage.repository.commits()
        expected = _EXPECTED[self.ending] if self.ending else status
        agreed = status == expected and committed == (status == Status.APPROVED and not outcome.failed)
        if not agreed:
            self.terminal.says("broker", f"This is not how it should end: {status}, committed: {committed}.")
        return agreed

    async def _show_record(self) -> None:
        rows = await self.broker.store.read(lambda session: list(record.stream(session)))
        head = audit.verify(rows, await self.broker.store.read(record.head))
        self.terminal.title("The record has all of it")
        shown = ((str(row.seq), f"{row.at:%H:%M:%S}", row.kind.value, _who(row.actor), row.tool or "") for row in rows)
        self.terminal.table(("seq", "UTC", "what", "who", "tool"), shown)
        self.terminal.says("broker", f"its hash chain is intact: {head.seq} rows, the last digest is {head.digest}")

    def _arguments(self, **arguments: str) -> dict[str, Any]:
        return {"repo_path": str(self.stage.repository.folder), **arguments}


def _who(actor: str) -> str:
    return LABEL if actor.startswith("agent:") else actor


def _how_it_ended(approval: Approval) -> str:
    end = approval.resolution
    if end is None or end.by is None:
        return "nobody answered in time. Nothing ran."
    if approval.state is State.REJECTED:
        return f"{end.by} rejected it. Nothing ran."
    return f"{end.by} approved it, so the call ran, once."


def _keep_first(future: asyncio.Future[str], message: str) -> None:
    if not future.done():
        future.set_result(message)
