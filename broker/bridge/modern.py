"""The stateless era (2026-07-28): each request names its revision, and fields of HTTP repeat what the body says.

What belongs here: those fields, as a client sends them. What does not: their words and rules (`broker.gateway`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from broker.bridge.exchange import JSON_FIELDS, Exchange, Fields
from broker.errors import SessionUnknown
from broker.gateway.jsonrpc import PROTOCOL_VERSION_META_KEY, Message
from broker.gateway.mirrored import Mirrored, encoded, fields, mirrored
from broker.gateway.protocol import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
)

_NAMES = {**NAME_BEARING_METHODS, "tasks/get": "taskId", "tasks/update": "taskId", "tasks/cancel": "taskId"}


class Modern:
    """What is remembered of this era: the revision that the client speaks, and what tools want repeated."""

    resumes = False

    def __init__(self) -> None:
        self._version = ""
        self._mirrored: dict[str, Sequence[Mirrored]] = {}

    async def standing(self, message: Message) -> None:
        """There are no sessions."""

    async def reopen(self, lost: object) -> None:
        """There are no sessions."""
        raise SessionUnknown

    def fields(self, message: Message) -> Fields:
        """`MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` and `Mcp-Param-…` (2026-07-28, Transports)."""
        meta: Any = message.params.get("_meta")
        version = cast("dict[str, Any]", meta).get(PROTOCOL_VERSION_META_KEY) if isinstance(meta, dict) else None
        self._version = version if isinstance(version, str) else self._version
        fields = {**JSON_FIELDS, MCP_PROTOCOL_VERSION_HEADER: self._version, MCP_METHOD_HEADER: message.method or ""}
        name = message.params.get(_NAMES.get(message.method or "", ""))
        if isinstance(name, str):
            fields[MCP_NAME_HEADER] = encoded(name)
            fields |= self._params(message, name)
        return fields

    def heard(self, exchange: Exchange, answer: Mapping[str, Any], session: str | None) -> None:
        """Remember which arguments the listed tools want repeated."""
        result: Any = answer.get("result")
        tools: Any = cast("dict[str, Any]", result).get("tools") if isinstance(result, dict) else None
        if exchange.message.method != "tools/list" or not isinstance(tools, list):
            return
        if "cursor" not in exchange.message.params:
            self._mirrored.clear()
        for tool in cast("list[Any]", tools):
            if isinstance(tool, dict):
                self._learn(cast("dict[str, Any]", tool))

    def _learn(self, tool: dict[str, Any]) -> None:
        name, schema = tool.get("name"), tool.get("inputSchema")
        if isinstance(name, str) and (wanted := mirrored(schema)):
            self._mirrored[name] = wanted

    def _params(self, message: Message, name: str) -> Fields:
        arguments: Any = message.params.get("arguments")
        if message.method != "tools/call" or name not in self._mirrored or not isinstance(arguments, dict):
            return {}
        return fields(self._mirrored[name], cast("dict[str, Any]", arguments))
