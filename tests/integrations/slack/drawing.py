"""What a person sees of a message or a modal, as lines of text: for snapshots, and for what a test looks for in it.

`code` stands in backticks, what is preformatted or quoted has a bar before it, buttons and fields stand in brackets.
Instants are in UTC, as where Slack cannot show them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

Json = dict[str, Any]


def drawn(blocks: list[Json]) -> str:
    """The blocks from top to bottom, an empty line between them."""
    return "\n\n".join("\n".join(_block(block)) for block in blocks)


def drawn_view(view: Json) -> str:
    """A modal: its title, its blocks, and its buttons."""
    buttons = f"[{view['close']['text']}]  [{view['submit']['text']}]"
    return f"== {view['title']['text']} ==\n\n{drawn(view['blocks'])}\n\n{buttons}"


def texts(value: Any) -> Iterator[str]:
    """Every text that is shown, wherever it stands."""
    if isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from texts(each)
    elif isinstance(value, dict):
        given = cast("Json", value)
        if isinstance(given.get("text"), str):
            yield given["text"]
        for each in given.values():
            yield from texts(each)


def _block(block: Json) -> Iterator[str]:
    match block:
        case {"type": "rich_text", "elements": parts}:
            for part in parts:
                yield from _part(part)
        case {"type": "section", "text": {"type": "mrkdwn", "text": str(mentions)}}:
            yield mentions
        case {"type": "actions", "elements": buttons}:
            yield "  ".join(f"[{button['text']['text']}{_looks(button)}]" for button in buttons)
        case {"type": "input", "label": label, "optional": optional}:
            yield f"{label['text']}{' (optional)' if optional else ''}"
            yield "[                                        ]"
        case _:
            raise AssertionError(f"nobody has drawn {block['type']} yet")


def _looks(button: Json) -> str:
    return f" → {button['url']}" if "url" in button else f" | {button['style']}"


def _part(part: Json) -> Iterator[str]:
    said = "".join(_element(element) for element in part["elements"])
    bar = {"rich_text_section": "", "rich_text_quote": "> ", "rich_text_preformatted": "│ "}[part["type"]]
    for line in said.split("\n"):
        yield f"{bar}{line}".rstrip()


def _element(element: Json) -> str:
    match element:
        case {"type": "text", "text": text}:
            return f"`{text}`" if element.get("style", {}).get("code") else text
        case {"type": "date", "fallback": text}:
            return text
        case {"type": "link", "url": url, "text": text}:
            return f"[{text} → {url}]"
        case _:
            raise AssertionError(f"nobody has drawn {element['type']} yet")
