"""What a start does without: what is imported only where it is used, since each start would wait for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.app.pages import Pages
from broker.store.writer import Store
from tests.clock import MovableClock
from tests.servers import BOUND, ROOT

SERVING = """
import asyncio, sys
from pathlib import Path
from broker.app import running
from broker.settings import load_settings

async def serve():
    async with running(load_settings(Path(sys.argv[1]))):
        print(*sys.modules)

asyncio.run(serve())
"""

NEVER = {
    "alembic",  # only for a store of an older schema
    "apprise",
    "authlib",
    "broker.web",
    "fastapi",
    "httpx2",
    "jinja2",
    "joserfc",
    "mcp",
    "mcp_types",
    "prompt_toolkit",
    "psycopg",
    "rich",
    "slack_bolt",
    "slack_sdk",
    "sqlalchemy.dialects.postgresql",
    "typer",
}
"""On SQLite, without Slack and single sign-on, before anybody opened a page."""


def test_a_server_that_started_has_imported_nothing_that_is_needed_only_sometimes(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path / 'broker.db'}", MovableClock()).close()
    policy, config = tmp_path / "policy.json", tmp_path / "broker.toml"
    policy.write_text('{"version": "1", "default": "allow", "tools": {"look": {"when": "args.much > 1"}}}')
    config.write_text('[server]\nport = 0\n[upstreams.git]\nurl = "http://127.0.0.1:9/mcp"\npolicy = "policy.json"\n')
    run = subprocess.run(
        [sys.executable, "-c", SERVING, str(config)], cwd=ROOT, capture_output=True, text=True, timeout=BOUND
    )
    assert run.returncode == 0, run.stderr
    imported = set(run.stdout.split())
    assert {"broker.gateway.endpoint", "sqlmodel", "cel"} <= imported
    assert not NEVER & imported


# -- the pages --------------------------------------------------------------------------------------------------------


class Making:
    """Makes an application that notes its requests; fails as often as it is told to before."""

    def __init__(self, fails: int = 0) -> None:
        self.made, self.answered, self._fails = 0, 0, fails

    def __call__(self) -> ASGIApp:
        if self._fails:
            self._fails -= 1
            raise OSError("Too many open files")
        self.made += 1
        return self._app

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.answered += 1


async def _ask(pages: Pages) -> None:
    async def nothing(*_: object) -> dict[str, object]:
        return {}

    await asyncio.wait_for(pages({"type": "http"}, nothing, nothing), BOUND)  # pyright: ignore[reportArgumentType]


async def test_requests_that_come_while_the_pages_are_made_are_all_answered_by_the_same() -> None:
    making = Making()
    pages = Pages(making)
    assert making.made == 0
    await asyncio.gather(*(_ask(pages) for _ in range(5)))
    assert (making.made, making.answered) == (1, 5)


async def test_pages_that_could_not_be_made_are_made_for_the_next_request() -> None:
    making = Making(fails=1)
    pages = Pages(making)
    with pytest.raises(OSError, match="Too many open files"):
        await _ask(pages)
    await _ask(pages)
    assert (making.made, making.answered) == (1, 1)
