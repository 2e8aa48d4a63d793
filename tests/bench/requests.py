"""What callers send and how the end of an answer is told, as bytes: built before anything is timed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from tests.bench.answers import TOOL

LEGACY, MODERN = "2025-11-25", "2026-07-28"
ARGUMENTS = {"path": "/srv/report/2026/q3.txt", "lines": [1, 80], "follow": False}
"""64 bytes of JSON."""

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CLIENT = {"name": "load", "version": "1"}
_ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": _CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT}


async def opened(http: aiohttp.ClientSession, url: str, revision: str, token: str | None) -> dict[str, str]:
    """The header fields of a call: with a session that was opened for a legacy one, with what a modern one calls."""
    fields = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": revision}
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    if revision == MODERN:
        return fields | {"Mcp-Method": "tools/call", "Mcp-Name": TOOL}
    async with http.post(url, json=message("initialize", INITIALIZE, 0), headers=fields) as answer:
        fields["Mcp-Session-Id"] = answer.headers["Mcp-Session-Id"]
    await (await http.post(url, json=message("notifications/initialized"), headers=fields)).read()
    return fields


async def closed(http: aiohttp.ClientSession, url: str, fields: Mapping[str, str]) -> None:
    """End the session of a legacy one."""
    if "Mcp-Session-Id" in fields:
        await (await http.delete(url, headers=fields)).read()


def message(method: str, params: Mapping[str, Any] | None = None, request_id: int | None = None) -> dict[str, Any]:
    """A request, or without an id a notification."""
    said = {"jsonrpc": "2.0", "method": method, "params": params or {}}
    return said if request_id is None else {**said, "id": request_id}


def call(
    revision: str, request_id: int, more: Mapping[str, Any] | None = None, meta: Mapping[str, Any] | None = None
) -> bytes:
    """A call of the fast tool, with `more` arguments and `meta`."""
    whole_meta = {**(_ENVELOPE if revision == MODERN else {}), **(meta or {})}
    params = {"name": TOOL, "arguments": {**ARGUMENTS, **(more or {})}}
    return orjson.dumps(message("tools/call", params | ({"_meta": whole_meta} if whole_meta else {}), request_id))


def http_request(url: str, fields: Mapping[str, str], body: bytes) -> bytes:
    """A POST."""
    address = urlsplit(url)
    sent = {"Host": address.netloc, "Content-Type": "application/json", "Content-Length": str(len(body)), **fields}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST {address.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def whole(answer: bytes) -> bool:
    """Whether an HTTP answer is there to its end."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")
