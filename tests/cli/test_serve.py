"""A real server in a process of its own, and the commands that talk to it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from broker.demo.agent import Agent, Outcome, connected_agent
from broker.demo.stage import POLICY, Repository, make_stage
from tests.cli.conftest import Shell
from tests.crashes.process import Started, started

TIME_LIMIT = 30.0


class Served:
    """A broker in front of a real git server, with a reviewer's token and an agent's grant."""

    def __init__(self, shell: Shell, repository: Repository, process: Started) -> None:
        self.shell = shell
        self.repository = repository
        self.process = process
        line = process.stdout.readline()
        assert line, process.log
        self.told = json.loads(line)
        self.url: str = self.told["url"]
        shell.lines("user", "add", "alice@x.org", "--role", "approver")
        token: str = shell.json("token", "create", "alice@x.org", "--label", "test")["token"]
        self.door = {"BROKER_URL": self.url, "BROKER_TOKEN": token}
        grant = ("grant", "create", "--upstream", "git", "--label", "the [red]agent\x1b", "--owner", "bob@x.org")
        self.grant: str = shell.json(*grant)["token"]

    def agent(self) -> Any:
        return connected_agent(f"{self.url}/mcp/git", self.grant)

    async def held(self, agent: Agent) -> tuple[asyncio.Task[Outcome], str]:
        """A commit that the agent waits for, and the id of its approval."""
        waits = asyncio.Event()
        arguments = {"repo_path": str(self.repository.folder), "message": "two\nlines"}
        call = asyncio.create_task(agent.call("git_commit", arguments, lambda _: waits.set()))
        async with asyncio.timeout(TIME_LIMIT):
            await waits.wait()
        (held,) = await self.command("approvals", "list", "--state", "pending")
        return call, held["id"]

    async def command(self, *arguments: str) -> Any:
        return await asyncio.to_thread(self.shell.json, *arguments, **self.door)

    async def text(self, *arguments: str) -> Sequence[str]:
        """The same as people read it."""
        return await asyncio.to_thread(self.shell.lines, *arguments, **self.door)


@pytest.fixture
def served(shell: Shell) -> Iterator[Served]:
    stage = make_stage(shell.folder, timedelta(minutes=5))
    command, env = stage.settings.upstreams["git"].command, stage.settings.upstreams["git"].env
    variables = ", ".join(f"{name} = {json.dumps(value)}" for name, value in env.items())
    (shell.folder / "broker.toml").write_text(
        f"[server]\nport = 0\n[upstreams.git]\ncommand = {json.dumps(command)}\nenv = {{ {variables} }}\n"
        f"policy = {json.dumps(str(POLICY))}\n[upstreams.other]\ncommand = ['nothing']\n"
    )
    with started(shell.folder, "serve", "--json", log=shell.folder / "log") as process:
        yield Served(shell, stage.repository, process)


async def test_a_held_call_is_shown_and_approved_from_a_terminal(served: Served) -> None:
    async with served.agent() as agent:
        call, approval_id = await served.held(agent)
        shown = await served.command("approvals", "show", approval_id)
        assert shown["arguments"]["message"] == "two\nlines"
        told = await served.text("approvals", "show", approval_id)
        assert any(re.fullmatch(r"time left +\d+m \d\ds", line) for line in told)
        (line,) = await served.text("approvals", "list")
        assert re.fullmatch(approval_id + r"\t\d+m \d\ds\tgit / git_commit\tthe \[red\]agent\\u001b\t-", line)
        (said,) = await served.text("approvals", "approve", approval_id)
        assert said == "Approved git / git_commit for the [red]agent\\u001b: it runs now."
        assert await served.text("approvals", "list") == []
        outcome = await call
        (approved,) = await served.command("approvals", "list", "--state", "all")
        assert approved["reviews"][0]["by"] == "alice@x.org"
    assert outcome.decision["status"] == "approved"
    assert served.repository.commits()[0] == "two lines"


async def test_a_rejection_reaches_the_agent_with_its_reason_and_can_be_forgotten(served: Served) -> None:
    async with served.agent() as agent:
        call, approval_id = await served.held(agent)
        await served.command("approvals", "reject", approval_id, "--reason", "not today")
        outcome = await call
        approve = partial(served.shell.refused, "approvals", "approve", approval_id, **served.door)
        assert "Already rejected by alice@x.org" in await asyncio.to_thread(approve)
        (said,) = await served.text("approvals", "forget", approval_id)
        assert said == "Forgot the rejection of git / git_commit for the [red]agent\\u001b: it asks again."
        asked_again, again = await served.held(agent)
        forget = partial(served.shell.refused, "approvals", "forget", again, **served.door)
        assert "There is nothing to forget" in await asyncio.to_thread(forget)
        withdraw = ("approvals", "withdraw", again)
        refused = partial(served.shell.refused, *withdraw, **served.door)
        assert await asyncio.to_thread(refused) == "broker: Your role does not allow this."
        await asyncio.to_thread(served.shell.lines, "user", "add", "alice@x.org", "--role", "admin")
        assert (await served.command(*withdraw))["resolution"]["by"] == "alice@x.org"
        withdrawn = await asked_again
    assert (outcome.decision["status"], outcome.decision["reason"]) == ("rejected", "not today")
    assert (withdrawn.decision["status"], withdrawn.decision["cause"]) == ("withdrawn", "administrator")
    assert len(served.repository.commits()) == 1


async def test_what_an_agent_wrote_is_shown_and_never_acts(served: Served) -> None:
    async with served.agent() as agent:
        call, approval_id = await served.held(agent)
        show = ("approvals", "show", approval_id)
        shown = await asyncio.to_thread(served.shell.lines, *show, **served.door)
        assert any("the [red]agent\\u001b of bob@x.org" in line for line in shown)
        assert '    "message": "two\\nlines"' in "\n".join(shown)
        await served.command("approvals", "reject", approval_id)
        await call


def test_serve_tells_what_it_does(served: Served) -> None:
    assert served.told["upstreams"] == {"git": str(POLICY), "other": None}
    assert served.told["store"] == f"sqlite:///{served.shell.folder}/broker.db"
    assert served.told["sign_in"].startswith(f"{served.url}/sign-in?token=")
    everybody = [person["email"] for person in served.shell.json("user", "list")]
    assert everybody == ["admin@localhost", "alice@x.org"]


def test_a_second_server_on_the_same_store_is_refused_and_the_first_stops_when_asked(served: Served) -> None:
    assert served.shell.refused("serve").startswith("broker: Another `broker serve` already uses")
    served.process.stop()
    assert served.process.wait() == 0
    third = served.shell.start("serve")
    assert third.stdout is not None
    told = [third.stdout.readline() for _ in range(4)]
    third.send_signal(signal.SIGINT)
    rest, errors = third.communicate(timeout=TIME_LIMIT)
    assert (third.returncode, errors) == (0, "")
    text = "".join(told) + rest
    assert "WARNING: no policy, so every call is held for a person" in text
    assert "sign-in" not in text  # somebody exists now


@pytest.mark.parametrize(
    ("environment", "status", "says"),
    [
        ({}, 2, "BROKER_TOKEN is not set"),
        ({"BROKER_TOKEN": "bt_wrong", "BROKER_URL": "http://127.0.0.1:9"}, 1, "http://127.0.0.1:9 cannot be reached"),
        ({"BROKER_TOKEN": "bt_wrong", "BROKER_URL": "nonsense"}, 1, "nonsense cannot be reached"),
    ],
)
def test_without_a_token_or_a_broker_there_is_one_line(
    environment: dict[str, str], status: int, says: str, shell: Shell
) -> None:
    assert says in shell.refused("approvals", "list", status=status, **environment)


def test_a_wrong_token_is_refused_by_the_broker(served: Served) -> None:
    said = served.shell.refused("approvals", "list", BROKER_URL=served.url, BROKER_TOKEN="bt_wrong")
    assert "This API token is unknown or revoked" in said


def test_workers_that_would_share_a_file_are_refused(shell: Shell) -> None:
    for said in (
        shell.refused("serve", "--workers", "2", status=2),
        shell.refused("serve", status=2, BROKER_SERVER__WORKERS="2"),
    ):
        assert "A SQLite file is served by one process: 2 workers cannot share it, and none was started." in said
        assert "Set store.url to a PostgreSQL database, or server.workers (or --workers) to 1." in said


def test_help_is_there_at_once_since_nothing_heavy_is_imported_for_it(shell: Shell) -> None:
    program = (
        "import sys\nfrom broker.cli import main\ntry:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    process = shell.start("--help", program=program)
    out, modules = process.communicate(timeout=TIME_LIMIT)
    assert "Commands:" in out
    assert "typer" in modules.split()
    assert {"sqlalchemy", "mcp", "fastapi", "pydantic", "httpx2", "rich.table"}.isdisjoint(modules.split())


def test_each_mistake_in_a_policy_has_a_line_of_its_own(shell: Shell) -> None:
    (shell.folder / "broker.toml").write_text('[upstreams.git]\ncommand = ["git-server"]\npolicy = "git.json"\n')
    (shell.folder / "git.json").write_text('{"version": "1", "default": "maybe", "tolls": {}}')
    ended = shell.run("serve")
    lines = ended.stderr.splitlines()
    assert ended.status == 1
    assert [line.split(": ")[-2] for line in lines] == ["default", "tolls"]
    assert "git.json:1:29: default: " in lines[0]
