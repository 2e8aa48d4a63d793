"""Programs in Python that are there at once: forked from a process that has imported what takes them seconds.

What belongs here: which imports those are, the forking, and the command that stands for such a program. What does not:
what the programs do.

The command is a real process, small and quick to start, with the streams, the environment and the folder that it was
given. It hands them to the warm process, whose fork runs the program, and passes signals on; the two end together, also
by SIGKILL. Where a program's own start is the subject, it is started as it is.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
WARM = (
    "alembic.command",
    "mcp.server.mcpserver",
    "mcp.client.stdio",
    "mcp.client.streamable_http",
    "mcp_server_fetch.server",
    "mcp_server_git.server",
    "mcp_server_time.server",
    "uvicorn",
    "broker.bridge.http",
    "broker.bridge.relay",
    "broker.bridge.stdio",
    "broker.cli.connect",
    "broker.store.writer",
    "sqlmodel",
)

# Without `site`, and with so few modules, it starts within milliseconds.
PROGRAM = """
import _signal, os, socket, sys
place, *words = map(os.fsencode, sys.argv[1:])
variables = [name + b"=" + value for name, value in os.environb.items()]
with socket.socket(socket.AF_UNIX) as warm:
    warm.connect(place)
    socket.send_fds(warm, [b"\\0".join([b"%d" % len(words), *words, os.getcwdb(), *variables])], [0, 1, 2])
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, lambda number, _: warm.send(bytes([number])))
    status = warm.recv(1)
os._exit(status[0] if status else 1)
"""


def warm(module: str, *arguments: str) -> list[str]:
    """The command that does what `python -m module arguments` does."""
    return [sys.executable, "-I", "-S", "-c", PROGRAM, str(_place()), module, *arguments]


@functools.cache
def _place() -> Path:
    """The socket of this process's own warm process, which ends with it."""
    folder = tempfile.mkdtemp(prefix="broker-warm-")
    command = [sys.executable, "-m", "tests.warm", folder]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"warm\n"
    atexit.register(process.communicate)
    return Path(folder) / "socket"


class Warm:
    """The warm process, while whoever started it lives."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._polled = select.poll()
        self._running: dict[int, tuple[int, socket.socket]] = {}
        for each in (0, listening.fileno()):
            self._polled.register(each, select.POLLIN)

    def run(self) -> None:
        """Fork for whoever asks, and tell them how it ended; what still runs in the end is killed."""
        while True:
            for ready, _ in self._polled.poll():
                if ready in self._running:
                    self._bury(ready)
                elif ready == self._listening.fileno():
                    self._fork(self._listening.accept()[0])
                else:
                    for pid, _ in self._running.values():
                        os.kill(pid, signal.SIGKILL)
                    return

    def _fork(self, asking: socket.socket) -> None:
        told, streams, _, _ = socket.recv_fds(asking, 1 << 20, 3)
        if not streams:  # it was killed before it had said anything
            asking.close()
            return
        if (pid := os.fork()) == 0:
            become(told, streams, asking)
        for stream in streams:
            os.close(stream)
        handle = os.pidfd_open(pid)
        self._running[handle] = (pid, asking)
        self._polled.register(handle, select.POLLIN)

    def _bury(self, handle: int) -> None:
        pid, asking = self._running.pop(handle)
        self._polled.unregister(handle)
        os.close(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with asking, suppress(ConnectionError):
            asking.send(bytes([status if status >= 0 else 128 - status]))


def become(told: bytes, streams: list[int], asking: socket.socket) -> NoReturn:
    """Run the program, in the fork, for as long as the process that asks for it lives."""
    number, _, rest = told.partition(b"\0")
    given = [os.fsdecode(each) for each in rest.split(b"\0")]
    words, folder, variables = given[: int(number)], given[int(number)], given[int(number) + 1 :]
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update((name, value) for name, _, value in (each.partition("=") for each in variables))
    random.seed()
    threading.Thread(target=_hear, args=(asking,), daemon=True).start()
    sys.argv = words
    status: Any = 0
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _hear(asking: socket.socket) -> None:
    while sent := asking.recv(1):
        os.kill(os.getpid(), sent[0])
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> None:
    """Import what takes long, and wait for whoever wants it."""
    for name in WARM:
        importlib.import_module(name)
    gc.freeze()  # the forks share it
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        listening.listen()
        sys.stdout.write("warm\n")
        sys.stdout.flush()
        Warm(listening).run()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
