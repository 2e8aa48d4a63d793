"""What the fast upstream answers, over either transport: as little work as a server of MCP can do."""

from __future__ import annotations

from typing import Any

import orjson

TOOL = "look"
SAID = "a small fixed answer"
"""The text in every answer to a call: an answer without it is none, however fast it came."""

_SERVER = {"name": "fast", "version": "1"}
_CAPABILITIES: dict[str, Any] = {"tools": {}}
_CACHED = {"ttlMs": 60_000, "cacheScope": "public"}
_RESULTS: dict[str, dict[str, Any]] = {
    "initialize": {"protocolVersion": "2025-11-25", "capabilities": _CAPABILITIES, "serverInfo": _SERVER},
    "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": _CAPABILITIES, **_CACHED},
    "tools/list": {"tools": [{"name": TOOL, "inputSchema": {"type": "object"}}], **_CACHED},
    "tools/call": {"content": [{"type": "text", "text": SAID}]},
}


def answer(body: bytes) -> tuple[str, bytes]:
    """The method of a message, and the response to it; to a notification there is none, and it is empty."""
    message = orjson.loads(body)
    method: str = message["method"]
    if "id" not in message:
        return method, b""
    result = {**_RESULTS[method], "resultType": "complete"}
    return method, orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
