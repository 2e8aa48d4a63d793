"""A stdio server without an SDK: it does what each request's method says, and does it badly on purpose.

`python -m tests.servers.raw_server [exit | refuse | stubborn]`: exits at once; refuses `initialize`; ignores the end of
its input and SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_seen: list[dict[str, Any]] = []
_waiting: dict[str, Any] = {}


def say(value: Any) -> None:
    """Write one line."""
    sys.stdout.write((value if isinstance(value, str) else json.dumps(value)) + "\n")
    sys.stdout.flush()


def answer(request: dict[str, Any], result: Any) -> None:
    """Answer a request."""
    say({"jsonrpc": "2.0", "id": request["id"], "result": result, "unknown": [1]})


def refuse(request: dict[str, Any], code: int) -> None:
    """Answer a request with an error."""
    say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}})


def progress(request: dict[str, Any], value: int) -> None:
    """Report progress of a request."""
    params = {"progressToken": request["params"]["_meta"]["progressToken"], "progress": value, "unknown": "kept"}
    say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def progress_then_die(request: dict[str, Any]) -> None:
    """Die in the middle of a stream."""
    progress(request, 1)
    os._exit(3)


def hold(request: dict[str, Any]) -> None:
    """Answer only when told to, by name."""
    _waiting[request["params"]["name"]] = request


def progress_of(request: dict[str, Any]) -> None:
    """Report progress of a held request."""
    progress(_waiting[request["params"]["name"]], request["params"]["progress"])
    answer(request, {})


def let_go(request: dict[str, Any]) -> None:
    """Answer a held request."""
    answer(_waiting.pop(request["params"]["name"]), {"held": request["params"]["name"]})
    answer(request, {})


def nonsense(request: dict[str, Any]) -> None:
    """Write what is no message, on both streams, and then answer."""
    sys.stderr.write("to the log \x1b[31m\n")
    sys.stderr.flush()
    say("Starting up...")
    say("")
    say("12")
    answer(request, {})


def ask(request: dict[str, Any]) -> None:
    """Send a notification and a request to the client; answer with the client's answer."""
    say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "hello"}})
    say({"jsonrpc": "2.0", "id": "mine", "method": "sampling/createMessage", "params": {}})
    answer(request, json.loads(sys.stdin.readline()))


def spawn(request: dict[str, Any]) -> None:
    """Start a child that would outlive us."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    answer(request, {"pid": os.getpid(), "child": child.pid})


def echo(request: dict[str, Any]) -> None:
    """Answer with the request as it arrived."""
    answer(request, {"pid": os.getpid(), "request": request})


BEHAVIOUR: dict[str, Callable[[dict[str, Any]], None]] = {
    "test/die": lambda _: os._exit(3),
    "test/progress-then-die": progress_then_die,
    "test/close": lambda _: os.close(1),
    "test/hold": hold,
    "test/progress": progress_of,
    "test/let-go": let_go,
    "test/nonsense": nonsense,
    "test/ask": ask,
    "test/fail": lambda request: refuse(request, request["params"]["code"]),
    "test/large": lambda request: answer(request, {"text": "x" * request["params"]["size"]}),
    "test/seen": lambda request: answer(request, {"seen": _seen}),
    "test/environment": lambda request: answer(request, {"environment": dict(os.environ), "cwd": str(Path.cwd())}),
    "test/spawn": spawn,
}


def handle(message: dict[str, Any], mode: str) -> None:
    """Do what the message's method names."""
    _seen.append(message)
    if "id" not in message:
        return
    if mode == "refuse" and message["method"] == "initialize":
        refuse(message, -32602)
    else:
        BEHAVIOUR.get(message["method"], echo)(message)


def main(mode: str) -> None:
    """Serve until the input ends."""
    if mode == "exit":
        sys.exit(1)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while line := sys.stdin.readline():
        handle(json.loads(line), mode)
    while mode == "stubborn":
        time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
