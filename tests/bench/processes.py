"""Processes that a benchmark starts, and that end with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from tests.servers import BOUND, ROOT

MODULE = (sys.executable, "-m")
BROKER = (*MODULE, "broker.cli")


async def start(stack: contextlib.AsyncExitStack, *command: str) -> tuple[Process, str]:
    """A process that runs until the stage ends, and its first line of output."""
    process = await run(stack, *command)
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), BOUND)
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
    """Seconds of CPU time that a process has used (proc(5), fields 14 and 15 of stat)."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), BOUND)
        except TimeoutError:
            process.kill()
    await process.wait()
