"""What the fast upstream answers, over either transport: as little work as a server of MCP can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

TOOL = "look"
SAID = "a fixed answer: "
"""What the text in every answer to a call begins with: an answer without it is none, however fast it came."""

SMALL, LARGE = 64, 100_000
"""Bytes of that text: without a word, and the other size that is measured."""

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
            "size": {"type": "integer", "description": "How many bytes to read", "default": SMALL},
            "events": {"type": "boolean", "description": "Answer with an event", "default": False},
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
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, empty where a message has none; whether it is to be an event where the transport has these."""

    method: str
    body: bytes
    events: bool = False


class Server:
    """The fast upstream, with so many tools, of which one is called."""

    def __init__(self, tools: int = 1) -> None:
        others = ({**_DESCRIBED, "name": f"{TOOL}_{number}"} for number in range(1, tools))
        self._results = {**_RESULTS, "tools/list": {"tools": [_DESCRIBED, *others], **_CACHED}}
        self._texts = {size: SAID.ljust(size, ".") for size in (SMALL, LARGE)}

    def answer(self, body: bytes) -> Answer:
        """To a message."""
        message = orjson.loads(body)
        method: str = message["method"]
        if "id" not in message:
            return Answer(method, b"")
        if method == "tools/call":
            asked: dict[str, Any] = message["params"]["arguments"]
            content = [{"type": "text", "text": self._texts[asked.get("size", SMALL)]}]
            result, events = {"content": content, "resultType": "complete"}, asked.get("events", False)
        else:
            result, events = {**self._results[method], "resultType": "complete"}, False
        return Answer(method, orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), events)
