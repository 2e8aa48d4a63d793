"""Processes that a benchmark starts, and that end with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from tests.servers import BOUND, ROOT

MODULE = (sys.executable, "-m")
BROKER = (*MODULE, "broker.cli")

STARTED_WITHIN = 120.0
"""Seconds, on a machine that is busy with the benchmark's other processes."""

_SCHED = 2
"""What Linux calls the clock of a process that counts as precisely as its scheduler does."""


def configured(folder: Path, settings: str) -> Path:
    """A broker's settings in `folder`, with a secret beside them: the file to give to it."""
    secret, config = folder / "broker.secret", folder / "broker.toml"
    secret.touch(0o600)
    secret.write_text(secrets.token_hex(32))
    config.write_text(settings)
    return config


async def start(stack: contextlib.AsyncExitStack, *command: str) -> tuple[Process, str]:
    """A process that runs until the stage ends, and its first line of output."""
    process = await run(stack, *command)
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), STARTED_WITHIN)
    if not line:
        raise RuntimeError(f"{' '.join(command)} ended before it said anything.")
    return process, line.decode().strip()


async def run(stack: contextlib.AsyncExitStack, *command: str) -> Process:
    """A process that runs until the stage ends."""
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=DEVNULL, stdout=PIPE)
    stack.push_async_callback(_end, process)
    return process


def resident(process: int) -> int:
    """Bytes of memory that a process holds (proc(5), field 2 of statm)."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_time(process: int) -> float:
    """Seconds of CPU time that a process has used (clock_getcpuclockid(3), as the C library does it)."""
    return time.clock_gettime(~process << 3 | _SCHED)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), BOUND)
        except TimeoutError:
            process.kill()
    await process.wait()
