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


def progress(request: dict[str, Any], value: int) -> None:
    """Report progress of a request."""
    params = {"progressToken": request["params"]["_meta"]["progressToken"], "progress": value, "unknown": "kept"}
    say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def _spawn() -> int:
    """A child that would outlive us."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


def handle(message: dict[str, Any], mode: str) -> None:
    """Do what the message's method names."""
    _seen.append(message)
    match message.get("method"):
        case "initialize" if mode == "refuse":
            say({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32602, "message": "no"}})
        case "test/die":
            os._exit(3)
        case "test/progress-then-die":
            progress(message, 1)
            os._exit(3)
        case "test/close":
            os.close(1)
        case "test/hang":
            pass
        case "test/hold":
            _waiting[message["params"]["name"]] = message
        case "test/progress":
            progress(_waiting[message["params"]["name"]], message["params"]["progress"])
            answer(message, {})
        case "test/let-go":
            answer(_waiting.pop(message["params"]["name"]), {"held": message["params"]["name"]})
            answer(message, {})
        case "test/nonsense":
            sys.stderr.write("to the log \x1b[31m\n")
            sys.stderr.flush()
            say("Starting up...")
            say("")
            say("12")
            answer(message, {})
        case "test/ask":
            say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "hello"}})
            say({"jsonrpc": "2.0", "id": "mine", "method": "sampling/createMessage", "params": {}})
            reply = json.loads(sys.stdin.readline())
            answer(message, reply)
        case "test/fail":
            say({"jsonrpc": "2.0", "id": message["id"], "error": {"code": message["params"]["code"], "message": "no"}})
        case "test/large":
            answer(message, {"text": "x" * message["params"]["size"]})
        case "test/seen":
            answer(message, {"seen": _seen})
        case "test/environment":
            answer(message, {"environment": dict(os.environ), "cwd": os.getcwd()})  # noqa: PTH109 - a plain string
        case "test/spawn":
            answer(message, {"pid": os.getpid(), "child": _spawn()})
        case _ if "id" in message:
            answer(message, {"pid": os.getpid(), "request": message})
        case _:
            pass


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
