"""What a scripted server streams."""

from __future__ import annotations

import json
from typing import Any

from tests.servers.scripted import Message


def sse(*messages: dict[str, Any]) -> bytes:
    """Messages as server-sent events."""
    return b"".join(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n" for message in messages)


def progress(call: Message, value: float, **more: Any) -> dict[str, Any]:
    """Progress of `call`."""
    params = {"progressToken": call["params"]["_meta"]["progressToken"], "progress": value, **more}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
