"""A child process that speaks in lines: its start, its two streams, its end.

What belongs here: the operating system's side of a stdio server. What does not: what the lines say
(`connection`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from broker.errors import UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.upstreams import ALWAYS, Permit
from broker.gateway.upstreams.stdio.environment import inherited
from broker.gateway.upstreams.stdio.lines import Lines
from broker.gateway.upstreams.stdio.tree import MARK, Tree
from broker.gateway.upstreams.stdio.words import Words

MAX_LINE = 96 * 1024 * 1024
"""A message of 64 MiB fits, whatever escapes its JSON takes."""
LINES_A_TURN = 64
"""Lines that are looked at before the rest of the event loop has its turn."""
MOST_URGENT = 64 * 1024
"""Bytes of the broker's own short messages that a process which reads nothing may leave waiting."""
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
    """One running child, whose children end with it.

    It is started by `subprocess`, not by the event loop: uvloop leaves copies of the pipes in the child, which would
    hide that it closed them.

    Args:
        on_line: called with each line of its stdout.
        on_end: called once, when nothing more will come.
        patience: seconds in which it has to read what is written.
    """

    def __init__(
        self, command: Command, on_line: Callable[[bytes], None], on_end: Callable[[], None], patience: float
    ) -> None:
        self._command = command
        self._patience = patience
        self._on_line = on_line
        self._on_end = on_end
        self._log = logging.getLogger(f"broker.upstream.{command.name}")
        self._out = Lines(MAX_LINE)
        self._lines: deque[bytes] = deque()  # read, and not looked at
        self._held = self._paused = False
        self._words = Words(self._log)
        self._writable = asyncio.Event()
        self._writable.set()
        self._turn = asyncio.Lock()
        self._in_line = 0
        self._urgent = 0
        self._exited = asyncio.Event()
        self._drained = asyncio.Event()
        self._over = False
        self._ending: asyncio.Task[None] | None = None
        self._asked = False  # whether it was told to end
        self._child: subprocess.Popen[bytes]
        self._tree: Tree | None = None
        self._stdin: asyncio.WriteTransport
        self._stdout: asyncio.ReadTransport
        self._stderr: asyncio.ReadTransport

    async def start(self) -> None:
        """Start the command.

        Raises:
            UpstreamUnreachable: it cannot be started.
        """
        loop, command, mark = asyncio.get_running_loop(), self._command, secrets.token_hex(8)
        try:
            self._child = child = _popen(command, mark)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UpstreamUnreachable(
                f"The MCP server {command.name!r} could not be started with {command.argv[0]!r} ({why}). "
                "Correct its `command` in the configuration."
            ) from error
        self._tree = Tree(child.pid, mark)
        try:
            await self._connect(loop)
        except BaseException:
            self.kill()
            child.wait()
            raise
        threading.Thread(target=self._wait, args=(loop,), name=f"wait for {child.pid}", daemon=True).start()

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        child = self._child
        self._stdin, _ = await loop.connect_write_pipe(
            lambda: _Input(self._resumed, self._writable.clear, self._input_lost), child.stdin
        )
        self._stdin.set_write_buffer_limits(high=0)  # what is written is sent, or it waits for its turn
        self._stderr, _ = await loop.connect_read_pipe(lambda: _Output(self._words.feed, self._words.end), child.stderr)
        self._stdout, _ = await loop.connect_read_pipe(
            lambda: _Output(self._read_output, self._output_lost), child.stdout
        )

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own, as asyncio's own children have: wait for the exit."""
        self._child.wait()
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(self._exit)

    @property
    def over(self) -> bool:
        """Whether nothing more comes from it, or it is being ended."""
        return self._over or self._ending is not None

    async def write(self, line: bytes, permit: Permit = ALWAYS) -> None:
        """Write `line` and a newline; waits for its turn while the process does not read what it has.

        Args:
            permit: spent when the turn has come, and renewed until it can be.

        Raises:
            UpstreamUnreachable: not a byte of it was taken.
            UpstreamInterrupted: some of it may have been.
        """
        if not self._in_line and self._writable.is_set() and permit.spend():
            self._put(line)
            return
        self._in_line += 1
        try:
            async with asyncio.timeout(self._patience), self._turn:
                await self._writable.wait()
                while not permit.spend():
                    await permit.renew()
                    await self._writable.wait()
                self._put(line)
        except TimeoutError:
            told = f"The MCP server {self._command.name!r} has not read its input for {self._patience:g} s"
            raise UpstreamUnreachable(f"{told}: the call was not sent.") from None
        finally:
            self._in_line -= 1

    def write_now(self, line: bytes) -> None:
        """Like `write`, without waiting: for what is short and must not wait.

        Raises:
            UpstreamUnreachable: besides, when too much of this waits already.
        """
        if not self._writable.is_set():
            self._urgent += len(line)
            if self._urgent > MOST_URGENT:
                raise UpstreamUnreachable(f"The MCP server {self._command.name!r} does not read its input.")
        self._put(line)

    def _put(self, line: bytes) -> None:
        name, stdin = self._command.name, self._stdin
        if self.over or stdin.is_closing():
            raise UpstreamUnreachable(f"The MCP server {name!r} {self._how_it_ended()}.")
        waiting = stdin.get_write_buffer_size()
        stdin.write(line + b"\n")
        if not stdin.is_closing():
            return
        if not waiting:  # the pipe had been broken before: the system took nothing
            raise UpstreamUnreachable(f"The MCP server {name!r} closed its input: the call was not sent.")
        raise UpstreamInterrupted(f"The MCP server {name!r} closed its input: the request may or may not have run.")

    def hold(self, held: bool) -> None:
        """Stop reading its stdout, or go on: a process that is held waits as soon as its pipe is full."""
        self._held = held
        self._read_on_or_not()

    def _read_on_or_not(self) -> None:
        paused = self._held or bool(self._lines)
        if paused != self._paused and not self._stdout.is_closing():
            self._paused = paused
            (self._stdout.pause_reading if paused else self._stdout.resume_reading)()

    async def end(self) -> None:
        """End it and all its children: close its stdin, then SIGTERM, then SIGKILL."""
        await asyncio.shield(self.end_soon())

    def end_soon(self) -> asyncio.Task[None]:
        """Begin to `end` it."""
        self._asked = self._asked or self._ending is None
        return self._begin_end()

    def _begin_end(self) -> asyncio.Task[None]:
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        return self._ending

    def kill(self) -> None:
        """SIGKILL it and all its children, without waiting for anything."""
        if self._tree is not None:
            self._tree.signal(signal.SIGKILL)

    async def _end(self) -> None:
        if not self._exited.is_set():
            self._stdin.close()
            await _within(GRACE, self._exited.wait())
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not await asyncio.to_thread(self._signal, number):
                break
            await _within(GRACE, self._gone())
        await _within(GRACE, self._exited.wait())
        await _within(GRACE, self._drained.wait())
        for transport in (self._stdin, self._stdout, self._stderr):
            transport.close()
        self._finish()

    async def _gone(self) -> None:
        await self._exited.wait()
        while await asyncio.to_thread(self._signal, 0):  # noqa: ASYNC110 - its children tell nobody when they are gone
            await asyncio.sleep(0.02)

    def _signal(self, number: int) -> bool:
        return self._tree is not None and self._tree.signal(number)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._writable.set()
            self._on_end()

    def _how_it_ended(self) -> str:
        if self._asked:
            return "is ending"
        status = self._child.returncode
        ended = "ended" if status is None else f"exited with status {status}"
        return f"{ended}; its last words are in the broker's log"

    # -- what the event loop calls ------------------------------------------------------------------------------------

    def _exit(self) -> None:
        """It exited; its children go too, so that its stdout ends once what is in there was read."""
        if self._asked:
            self._log.info("is ended, as the broker wanted (status %s)", self._child.returncode)
        else:
            self._log.warning("exited by itself with status %s", self._child.returncode)
        self._exited.set()
        self._begin_end()

    def _resumed(self) -> None:
        self._urgent = 0
        self._writable.set()

    def _input_lost(self) -> None:
        self._writable.set()
        self._begin_end()  # without its input it is of no use; nor without its output

    def _output_lost(self) -> None:
        self._drained.set()
        self._finish()
        self._begin_end()

    def _read_output(self, data: bytes) -> None:
        if self._over:
            return
        self._lines.extend(self._out.feed(data))
        self._take_turn()
        if self._out.too_long:
            self._log.error("sent a line of more than %d bytes: it is ended", MAX_LINE)
            self._output_lost()

    def _take_turn(self) -> None:
        """Look at some lines; nothing more is read while there are others."""
        began = perf_counter()
        for _ in range(min(len(self._lines), LINES_A_TURN)):
            if self._over:
                self._lines.clear()
                return
            self._on_line(self._lines.popleft())
        self._read_on_or_not()
        if self._lines:
            # As long again for others: threads of the store get the interpreter only while the loop has nothing to do.
            asyncio.get_running_loop().call_later(perf_counter() - began, self._take_turn)


class _Input(asyncio.BaseProtocol):
    """Our end of the child's stdin."""

    def __init__(
        self, on_resume: Callable[[], None], on_pause: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        self.resume_writing = on_resume
        self.pause_writing = on_pause
        self._on_lost = on_lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()


class _Output(asyncio.Protocol):
    """Our end of the child's stdout or stderr."""

    def __init__(self, on_data: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_data = on_data
        self._on_lost = on_lost

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()


def _popen(command: Command, mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the administrator's own command, without a shell
        command.argv,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=inherited() | dict(command.env) | {MARK: mark},
        cwd=command.cwd,
        start_new_session=True,
    )


async def _within(seconds: float, event: Awaitable[object]) -> None:
    """Wait for something, but no longer."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event, seconds)
