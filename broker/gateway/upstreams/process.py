"""A child process that speaks in lines: its start, its two streams, its end.

What belongs here: the operating system's side of a stdio server. What does not: what the lines say
(`broker.gateway.upstreams.connection`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mcp.client.stdio import get_default_environment

from broker.errors import UpstreamInterrupted, UpstreamUnreachable

MAX_LINE = 96 * 1024 * 1024
"""A message of 64 MiB fits, whatever escapes its JSON takes."""
MAX_LOG_LINE = 16 * 1024
GRACE = 2.0
"""How long a process is waited for, after its stdin is closed and again after SIGTERM (2025-11-25, Lifecycle)."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start. `env` is added to the few variables that a child needs; nothing else is inherited."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: Path | None = None


class ServerProcess:
    """One running child, in a process group of its own so that its children end with it.

    It is started by `subprocess`, not by the event loop: uvloop leaves copies of the pipes in the child, which would
    hide that it closed them.

    Args:
        on_line: called with each line of its stdout.
        on_end: called once, when nothing more will come.
    """

    def __init__(self, command: Command, on_line: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._command = command
        self._on_line = on_line
        self._on_end = on_end
        self._log = logging.getLogger(f"broker.upstream.{command.name}")
        self._out = _Lines(MAX_LINE)
        self._err = _Lines(MAX_LOG_LINE)
        self._writable = asyncio.Event()
        self._writable.set()
        self._exited = asyncio.Event()
        self._over = False
        self._ending: asyncio.Task[None] | None = None
        self._child: subprocess.Popen[bytes]
        self._stdin: asyncio.WriteTransport
        self._outputs: list[asyncio.ReadTransport]

    async def start(self) -> None:
        """Start the command.

        Raises:
            UpstreamUnreachable: it cannot be started.
        """
        loop, command = asyncio.get_running_loop(), self._command
        try:
            self._child = child = _popen(command)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UpstreamUnreachable(
                f"The MCP server {command.name!r} could not be started with {command.argv[0]!r} ({why}). "
                "Correct its `command` in the configuration."
            ) from error
        try:
            self._stdin, _ = await loop.connect_write_pipe(
                lambda: _Input(self._writable, self._input_lost), child.stdin
            )
            log, _ = await loop.connect_read_pipe(lambda: _Output(self._read_log, self._log_lost), child.stderr)
            out, _ = await loop.connect_read_pipe(lambda: _Output(self._read_output, self._output_lost), child.stdout)
        except BaseException:
            self._signal(signal.SIGKILL)
            child.wait()
            raise
        self._outputs = [log, out]
        threading.Thread(target=self._wait, args=(loop,), name=f"wait for {child.pid}", daemon=True).start()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own, as asyncio's own children have: wait for the exit."""
        self._child.wait()
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(self._exit)

    @property
    def over(self) -> bool:
        """Whether nothing more comes from it, or it is being ended."""
        return self._over or self._ending is not None

    async def write(self, line: bytes) -> None:
        """Write `line` and a newline; waits while the process does not read what it has.

        Raises:
            UpstreamUnreachable: not a byte of it was taken.
            UpstreamInterrupted: some of it may have been.
        """
        await self._writable.wait()
        self.write_now(line)

    def write_now(self, line: bytes) -> None:
        """Like `write`, without waiting."""
        name, stdin = self._command.name, self._stdin
        if self.over or stdin.is_closing():
            raise UpstreamUnreachable(f"The MCP server {name!r} {self._how_it_ended()}.")
        waiting = stdin.get_write_buffer_size()
        stdin.write(line + b"\n")
        if not stdin.is_closing():
            return
        if not waiting:  # the pipe had been broken before: the system took nothing
            raise UpstreamUnreachable(f"The MCP server {name!r} closed its input: the call was not sent.")
        raise UpstreamInterrupted(f"The MCP server {name!r} closed its input: the call may or may not have run.")

    async def end(self) -> None:
        """End it and all its children: close its stdin, then SIGTERM, then SIGKILL."""
        await asyncio.shield(self._end_soon())

    def _end_soon(self) -> asyncio.Task[None]:
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        return self._ending

    async def _end(self) -> None:
        self._stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), GRACE)
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._group_gone(), GRACE)
        self._signal(signal.SIGKILL)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), GRACE)
        for transport in (self._stdin, *self._outputs):
            transport.close()
        self._finish()

    async def _group_gone(self) -> None:
        await self._exited.wait()
        while self._signal(0):  # noqa: ASYNC110 - a process group tells nobody when it is gone
            await asyncio.sleep(0.01)

    def _signal(self, number: int) -> bool:
        """Signal the group; False when none of it is left."""
        try:
            os.killpg(self._child.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody is there who may not be signalled
            return True
        return True

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._writable.set()
            self._on_end()

    def _how_it_ended(self) -> str:
        status = self._child.returncode
        return "is ending" if status is None else f"exited with status {status}; its last words are in the broker's log"

    # -- what the event loop calls ------------------------------------------------------------------------------------

    def _exit(self) -> None:
        """It exited; its children go too, so that its stdout ends once what is in there was read."""
        level = logging.INFO if self._ending else logging.WARNING  # nobody asked it to
        self._log.log(level, "exited with status %s", self._child.returncode)
        self._exited.set()
        self._end_soon()

    def _input_lost(self) -> None:
        self._writable.set()
        self._end_soon()  # without its input it is of no use; nor without its output

    def _output_lost(self) -> None:
        self._finish()
        self._end_soon()

    def _read_output(self, data: bytes) -> None:
        if self._over:
            return
        for line in self._out.feed(data):
            self._on_line(line)
        if self._out.too_long:
            self._log.error("sent a line of more than %d bytes: it is ended", MAX_LINE)
            self._output_lost()

    def _read_log(self, data: bytes) -> None:
        self._note(self._err.feed(data))
        if self._err.too_long:
            self._log_lost()

    def _log_lost(self) -> None:
        self._note([self._err.take_rest()])

    def _note(self, lines: list[bytes]) -> None:
        for line in filter(None, lines):
            self._log.info("%s", _printable(line))


class _Input(asyncio.BaseProtocol):
    """Our end of the child's stdin."""

    def __init__(self, writable: asyncio.Event, on_lost: Callable[[], None]) -> None:
        self._writable = writable
        self._on_lost = on_lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()


class _Output(asyncio.Protocol):
    """Our end of the child's stdout or stderr."""

    def __init__(self, on_data: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_data = on_data
        self._on_lost = on_lost

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()


def _popen(command: Command) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the administrator's own command, without a shell
        command.argv,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=get_default_environment() | dict(command.env),
        cwd=command.cwd,
        start_new_session=True,
    )


class _Lines:
    """Cuts a stream into lines, in linear time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def too_long(self) -> bool:
        return self._size > self._limit

    def feed(self, data: bytes) -> list[bytes]:
        first, *others = data.split(b"\n")
        self._pieces.append(first)
        self._size += len(first)
        if not others:
            return []
        lines = [b"".join(self._pieces), *others[:-1]]
        self._pieces, self._size = [others[-1]], len(others[-1])
        return lines

    def take_rest(self) -> bytes:
        rest = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return rest


def _printable(line: bytes) -> str:
    """Text of a server in a log: what could steer a terminal is shown as an escape."""
    text = line.decode(errors="backslashreplace")[:MAX_LOG_LINE]
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
