"""What the server has: tools, prompts and resources as they are listed, and content of every kind.

What belongs here: values. What does not: what is done with them.
"""

from __future__ import annotations

from typing import Any

from tests.servers.every.speech import Message, literal

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
ICON = {"src": "https://example.com/icon.png", "mimeType": "image/png", "sizes": ["48x48"], "theme": "dark"}
META = {"example.com/kept": {"b": 1, "a": [None, True]}}
SERVER_INFO: Message = {
    "name": "every",
    "title": "Every feature",
    "version": "1.0.0",
    "description": "For tests",
    "websiteUrl": "https://example.com/",
    "icons": [ICON],
}
ANNOTATIONS = {"audience": ["user", "assistant"], "priority": 0.5, "lastModified": "2025-01-12T15:00:58Z"}
LARGE = "ä" * 100_000

CONTENT: list[Message] = [
    {"type": "text", "text": "wörds \u2028 \U0001f600 \u0000 end", "annotations": ANNOTATIONS, "_meta": META},
    {"type": "image", "data": PIXEL, "mimeType": "image/png", "_meta": META},
    {"type": "audio", "data": "UklGRg==", "mimeType": "audio/wav", "annotations": {"priority": 1.0}},
    {
        "type": "resource_link",
        "uri": "test://text/1",
        "name": "one",
        "title": "One",
        "description": "A link",
        "mimeType": "text/plain",
        "size": 12,
        "icons": [ICON],
        "_meta": META,
    },
    {"type": "resource", "resource": {"uri": "test://text/1", "mimeType": "text/plain", "text": "in", "_meta": META}},
    {"type": "resource", "resource": {"uri": "test://blob/1", "mimeType": "image/png", "blob": PIXEL}},
]
STRUCTURED: Message = {
    "zeta": 1,
    "alpha": [1.0, -0.0, 0.1, 1e-7, 5e-324, 2**53 + 1, 2**64, -(2**70), 10**30],
    "": {"": ""},
    "__proto__": {"nothing": None, "empty": [[], {}]},
    "ключ": "ü\u0000",
}
STRANGE: Message = {
    "content": [{"type": "hologram", "depth": 3, "points": [[1, 2], []]}, {"type": "text", "text": "", "x-more": {}}],
    "structuredContent": {
        "numbers": [literal(number) for number in ("1e2", "1E+2", "1.50", "-0", "-0.0", "1e-400", "10e-1")],
        "lone": "\ud800 \udfff",
        "escaped": '"\\/\b\f\n\r\t\x7f',
    },
    "isError": False,
    "x-result": {"z": [{}], "a": None},
    "_meta": {"example.com/": None, "x": literal("123456789012345678901234567890")},
}


def tool(name: str, properties: Message | None = None, **more: Any) -> Message:
    """A tool as it is listed."""
    return {"name": name, "inputSchema": {"type": "object", "properties": properties or {}}, **more}


LISTED_TOOLS: list[list[Message]] = [
    [
        tool(
            "content",
            title="Content of every kind",
            description="Gives one of each.\n",
            outputSchema={"type": "object", "properties": {"zeta": {"type": "integer"}}, "required": ["zeta"]},
            annotations={"title": "Content", "readOnlyHint": True, "destructiveHint": False, "openWorldHint": False},
            icons=[ICON],
            execution={"taskSupport": "optional"},
            _meta=META,
        ),
        tool("fails"),
        tool("breaks"),
        tool("strange", **{"x-unheard": {"number": literal("1e2"), "big": 2**70, "text": "\u00e9/"}}),
    ],
    [
        tool("steps", {"count": {"type": "integer", "minimum": 0, "default": 3}}),
        tool("talks"),
        tool("asks", {"method": {"type": "string"}, "params": {}}),
        tool("asks_aside", {"method": {"type": "string"}, "params": {}}),
        tool("withdraws"),
        tool("announces", {"said": {"type": "array"}}),
        tool("hidden", description="What a policy may hide."),
    ],
    [
        tool("waits", {"name": {"type": "string"}}),
        tool("release", {"name": {"type": "string"}}),
        tool("gone", {"name": {"type": "string"}}),
        tool("drops", {"name": {"type": "string"}}),
        tool("wants", {"rounds": {"type": "integer"}}),
        tool("label", {"region": {"type": "string", "x-mcp-header": "Region"}}),
        tool("large"),
    ],
]
LISTED_PROMPTS: list[list[Message]] = [
    [
        {
            "name": "greeting",
            "title": "Greeting",
            "description": "Greets.",
            "arguments": [{"name": "who", "title": "Who", "description": "Whom", "required": True}, {"name": "how"}],
            "icons": [ICON],
            "_meta": META,
        }
    ],
    [{"name": "bare"}],
]
LISTED_RESOURCES: list[list[Message]] = [
    [
        {
            "uri": "test://text/1",
            "name": "one",
            "title": "One",
            "description": "A text",
            "mimeType": "text/plain",
            "annotations": ANNOTATIONS,
            "size": 12,
            "icons": [ICON],
            "_meta": META,
        }
    ],
    [{"uri": "test://blob/1", "name": "two"}],
]
LISTED_TEMPLATES: list[list[Message]] = [
    [
        {
            "uriTemplate": "test://text/{number}",
            "name": "texts",
            "title": "Texts",
            "description": "Each",
            "mimeType": "text/plain",
            "annotations": ANNOTATIONS,
            "_meta": META,
        }
    ]
]
READ: dict[str, list[Message]] = {
    "test://text/1": [
        {"uri": "test://text/1", "mimeType": "text/plain", "text": "one\ntwo\u2029", "_meta": META},
        {"uri": "test://text/1#2", "text": ""},
    ],
    "test://blob/1": [{"uri": "test://blob/1", "mimeType": "image/png", "blob": PIXEL}],
}
