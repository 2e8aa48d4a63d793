"""The whole story in a real browser: a held `git_commit` arrives, is looked at and decided, and the agent goes on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import TextContent
from playwright.async_api import Page, expect

import policies
from broker.app import Broker, running
from broker.domain.people import Role
from broker.settings import Settings
from broker.store import grants, people
from broker.store.people import CredentialKind

BOUND = 30.0
SIZES = [(1280, 800), (390, 844)]
REVIEWER = "reviewer@example.com"

LAYOUT = """() => {
  const seen = element => element.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const anchoring = element => getComputedStyle(element.closest("#decide, #batch, #live") || element).position;
  const boxes = [...document.querySelectorAll("button, a, textarea, input:not([type=hidden]), select")]
    .filter(seen).map(element => [element, element.getBoundingClientRect()])
    .filter(([, box]) => box.width && box.height);
  const overlapping = [];
  for (const [one, a] of boxes) for (const [other, b] of boxes)
    if (one !== other && !one.contains(other) && !other.contains(one) && anchoring(one) === anchoring(other)
        && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
      overlapping.push(one.outerHTML.slice(0, 80) + " over " + other.outerHTML.slice(0, 80));
  const small = [...document.querySelectorAll("body *")].filter(element => seen(element)
    && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
    && parseFloat(getComputedStyle(element).fontSize) < 14).map(element => element.outerHTML.slice(0, 80));
  return {sideways: document.documentElement.scrollWidth - innerWidth, overlapping, small};
}"""


@dataclass
class Agent:
    """A grant of somebody who is not the reviewer, on a repository with something to commit."""

    broker: Broker
    token: str
    repository: Path

    async def commit(self, message: str, mode: str) -> tuple[bool, str]:
        """Call `git_commit` as a real client does: whether it failed, and what the agent reads."""
        http = create_mcp_http_client(headers={"Authorization": f"Bearer {self.token}"})
        async with Client(streamable_http_client(f"{self.broker.url}/mcp/git", http_client=http), mode=mode) as client:
            result = await client.call_tool("git_commit", {"repo_path": str(self.repository), "message": message})
        first = result.content[0]
        assert isinstance(first, TextContent)
        return result.is_error, first.text

    def log(self) -> str:
        """The subjects of the commits there are."""
        return git(self.repository, "log", "--format=%s")


def git(repository: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Demo", "-c", "user.email=demo@example.com")
    command = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncGenerator[Agent]:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet")
    git(repository, "config", "user.name", "Agent")
    git(repository, "config", "user.email", "agent@example.com")
    (repository / "notes.txt").write_text("one")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "first")
    (repository / "notes.txt").write_text("two")
    git(repository, "add", ".")
    settings = Settings.model_validate(
        {
            "server": {"port": 0, "secret": f"file:{tmp_path / 'secret'}"},
            "store": {"url": f"sqlite:///{tmp_path / 'broker.db'}"},
            "upstreams": {
                "git": {
                    "command": [sys.executable, "-m", "mcp_server_git", "--repository", str(repository)],
                    "policy": Path(policies.__file__).with_name("git.json"),
                }
            },
        }
    )
    async with running(settings) as broker:
        roles = frozenset({Role.APPROVER, Role.AUDITOR})
        await broker.store.write(lambda tx: people.save(tx, "cli:test", REVIEWER, roles, frozenset()))
        made = await broker.store.write(
            lambda tx: grants.create(
                tx, "cli:test", label="scribe", owner="o@example.com", upstreams=frozenset({"git"}), expires_at=None
            )
        )
        yield Agent(broker, made.token, repository)


async def sign_in(page: Page, broker: Broker) -> None:
    link = await broker.store.write(
        lambda tx: people.issue(tx, "cli:test", CredentialKind.LINK, REVIEWER, lifetime=timedelta(minutes=15))
    )
    await page.goto(f"{broker.url}/sign-in?token={link.secret}")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Nothing waits")).to_be_visible()


@asynccontextmanager
async def asking(agent: Agent, message: str, mode: str) -> AsyncGenerator[asyncio.Task[tuple[bool, str]]]:
    task = asyncio.create_task(agent.commit(message, mode))
    try:
        async with asyncio.timeout(BOUND):
            yield task
    finally:
        task.cancel()


async def assert_well_laid_out(page: Page) -> None:
    found: dict[str, Any] = await page.evaluate(LAYOUT)
    assert found == {"sideways": 0, "overlapping": [], "small": []}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("size", SIZES)
async def test_a_held_commit_arrives_without_a_reload_is_approved_and_runs(
    page: Page, agent: Agent, size: tuple[int, int], mode: str
) -> None:
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    await sign_in(page, agent.broker)
    await assert_well_laid_out(page)
    long_message = "second\n\n" + "because of reasons that fill a line " * 60
    async with asking(agent, long_message, mode) as call:
        row = page.locator("#waiting").get_by_role("link")
        await expect(row).to_contain_text("git_commit")
        await assert_well_laid_out(page)
        await row.click()
        for name in ("Approve", "Reject"):
            await expect(page.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
        await expect(page.get_by_text("tools.git_commit.action")).to_be_attached()
        assert long_message.strip() in (await page.locator(".run-values").inner_text())
        await assert_well_laid_out(page)
        assert agent.log() == "first\n"
        await page.get_by_role("button", name="Approve").click()
        failed, text = await call
    assert (failed, "committed successfully" in text) == (False, True)
    assert agent.log() == "second\nfirst\n"
    await expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    await assert_well_laid_out(page)
    await page.goto(f"{agent.broker.url}/audit")
    await expect(page.locator("body")).to_contain_text("git_commit")
    await assert_well_laid_out(page)
    await page.get_by_role("link", name="Policies").click()
    await expect(page.get_by_role("row", name="git_commit")).to_contain_text("hold")
    await assert_well_laid_out(page)


async def test_a_rejection_with_a_reason_reaches_the_agent_and_nothing_runs(page: Page, agent: Agent) -> None:
    await sign_in(page, agent.broker)
    async with asking(agent, "second", "auto") as call:
        await page.locator("#waiting").get_by_role("link").click()
        await page.get_by_label("Reason").fill("not on a Friday")
        await page.get_by_role("button", name="Reject").click()
        failed, text = await call
    assert failed
    assert f"Rejected by {REVIEWER}: not on a Friday" in text
    assert agent.log() == "first\n"
