"""A broker in a process of its own, so that what it takes of the machine can be measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from broker.domain.people import Grant
from tests.cli.conftest import Shell
from tests.crashes.process import BrokerProcess
from tests.crashes.process import serving as broker_process
from tests.gateway.scene import OWNER, Agent
from tests.servers import BOUND
from tests.sqlite import new_file


@dataclass
class Served:
    """The process, and an agent with a grant on each of its upstreams."""

    process: BrokerProcess
    agent: Agent

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    @property
    def said(self) -> str:
        """Its log."""
        return self.process.log

    @property
    def resident(self) -> int:
        """Bytes of memory that it holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    @property
    def open_files(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def settled(self, files: int) -> int:
        """The open files, once there are no more than `files`, or when that takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                while self.open_files > files:  # noqa: ASYNC110 - another process closes them
                    await asyncio.sleep(0.05)
        return self.open_files


@contextlib.asynccontextmanager
async def serving(
    folder: Path, upstreams: Mapping[str, Mapping[str, Any]], *, stop_within: str = "10s"
) -> AsyncGenerator[Served]:
    """One with its store and settings in `folder`; every call is allowed."""
    (folder / "open.json").write_text(json.dumps({"version": "1", "default": "allow", "tools": {}}))
    tables = [f"[server]\nport = 0\nstop_within = {json.dumps(stop_within)}"]
    for name, terms in upstreams.items():
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**terms, "policy": "open.json"}.items()]
        tables.append("\n".join([f"[upstreams.{name}]", *lines]))
    (folder / "broker.toml").write_text("\n".join(tables))
    new_file(folder / "broker.db")
    async with broker_process(folder) as process, aiohttp.ClientSession() as http:
        names = [word for name in upstreams for word in ("--upstream", name)]
        create = ("grant", "create", *names, "--label", "agent", "--owner", OWNER)
        made = await asyncio.to_thread(Shell(folder).json, *create)
        grant = Grant(
            id=made["id"], label="agent", owner=OWNER, upstreams=frozenset(upstreams), created_at=datetime.now(UTC)
        )
        yield Served(process, Agent(process.url, grant, made["token"], http))
