"""What the fast upstream answers, over either transport: as little work as a server of MCP can do."""

from __future__ import annotations

from typing import Any

import orjson

TOOL = "look"
SAID = "a small fixed answer"
"""The text in every answer to a call: an answer without it is none, however fast it came."""

_DESCRIBED: dict[str, Any] = {
    "name": TOOL,
    "title": "Look into a file",
    "description": "Reads lines of a text file in the project. Give an absolute path; large files are cut off, and the "
    "answer says at which line. Use `follow` for a file that grows, such as a log. Binary files are refused.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "The absolute path of the file", "minLength": 1},
            "lines": {
                "type": "array",
                "description": "The first and the last line to read, counted from 1",
                "items": {"type": "integer", "minimum": 1},
                "minItems": 2,
                "maxItems": 2,
            },
            "follow": {"type": "boolean", "description": "Wait for more lines at the end", "default": False},
            "encoding": {"type": "string", "enum": ["utf-8", "latin-1", "utf-16"], "default": "utf-8"},
            "number": {"type": "integer", "description": "Which of many callers asks"},
        },
        "required": ["path"],
        "additionalProperties": False,
    },
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}
"""A tool of the usual size: what is kept of it for each held call should be seen."""

_SERVER = {"name": "fast", "version": "1"}
_CAPABILITIES: dict[str, Any] = {"tools": {}}
_CACHED = {"ttlMs": 60_000, "cacheScope": "public"}
_RESULTS: dict[str, dict[str, Any]] = {
    "initialize": {"protocolVersion": "2025-11-25", "capabilities": _CAPABILITIES, "serverInfo": _SERVER},
    "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": _CAPABILITIES, **_CACHED},
    "tools/list": {"tools": [_DESCRIBED], **_CACHED},
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
