"""A stdio server without an SDK: it does what each request's method says, and does it badly on purpose.

`python -m tests.servers.raw_server [exit | refuse | stubborn]`: exits at once; refuses `initialize` and
`server/discover`; ignores the end of its input and SIGTERM.
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


def say_all(request: dict[str, Any]) -> None:
    """Write messages as they are given, before the answer or after it."""
    if "after" in request["params"]:
        answer(request, {})
    for message in request["params"].get("after", request["params"].get("before", [])):
        say({"jsonrpc": "2.0", **message})
    if "before" in request["params"]:
        answer(request, {})


def ask(request: dict[str, Any]) -> None:
    """Send a notification and a request to the client; answer with the client's answer."""
    say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "hello"}})
    say({"jsonrpc": "2.0", "id": "mine", "method": "sampling/createMessage", "params": {}})
    _waiting["mine"] = request


def hear(response: dict[str, Any]) -> None:
    """Take an answer of the client."""
    if (asking := _waiting.pop(response["id"], None)) is not None:
        answer(asking, response)


def listen(request: dict[str, Any]) -> None:
    """Acknowledge a subscription and keep it."""
    _waiting["subscription"] = request
    meta = {"io.modelcontextprotocol/subscriptionId": request["id"], "kept": True}
    say({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {"_meta": meta}})


def end_listening(request: dict[str, Any]) -> None:
    """Answer the subscription."""
    listening = _waiting.pop("subscription")
    answer(listening, {"_meta": {"io.modelcontextprotocol/subscriptionId": listening["id"], "kept": True}})
    answer(request, {})


def flood(request: dict[str, Any]) -> None:
    """Say much: progress of a held request, or what belongs to none; write to a file how much, when held back."""
    params = request["params"]
    held = _waiting.get(params.get("name"))
    token = held["params"]["_meta"]["progressToken"] if held is not None else None
    number = 0

    def held_back(_signal: int, _frame: object) -> None:
        Path(params["file"]).write_text(str(number))

    signal.signal(signal.SIGALRM, held_back)
    for number in range(params["count"]):
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        more = {"progressToken": token, "progress": number, "filler": "x" * params["size"]}
        say({"jsonrpc": "2.0", "method": "notifications/progress" if held else "n/flood", "params": more})
    signal.setitimer(signal.ITIMER_REAL, 0)
    answer(request, {})


def stop_reading(request: dict[str, Any]) -> None:
    """Answer, and read nothing ever after; say what is given."""
    answer(request, {})
    for message in request["params"].get("after", []):
        say({"jsonrpc": "2.0", **message})
    time.sleep(600)


def spawn(request: dict[str, Any]) -> None:
    """Start a child that would outlive us, in its own session if wanted."""
    own: bool = request["params"].get("own_session", False)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=own)
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
    "test/say": say_all,
    "test/ask": ask,
    "test/end-listening": end_listening,
    "test/flood": flood,
    "test/stop-reading": stop_reading,
    "subscriptions/listen": listen,
    "test/fail": lambda request: refuse(request, request["params"]["code"]),
    "test/large": lambda request: answer(request, {"text": "x" * request["params"]["size"]}),
    "test/seen": lambda request: answer(request, {"seen": _seen}),
    "test/environment": lambda request: answer(request, {"environment": dict(os.environ), "cwd": str(Path.cwd())}),
    "test/spawn": spawn,
}


def handle(message: dict[str, Any], mode: str) -> None:
    """Do what the message's method names."""
    _seen.append(message)
    if "method" not in message:
        hear(message)
    elif "id" not in message:
        return
    elif mode == "refuse" and message["method"] in ("initialize", "server/discover"):
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
