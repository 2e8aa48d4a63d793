"""What a person who looks at a message or a modal sees there, and what in it takes effect.

What belongs here: blocks. What does not: mrkdwn itself (mrkdwn.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.servers.slack import mrkdwn
from tests.servers.slack.mrkdwn import Effect, Seen
from tests.servers.slack.objects import Json, Message, View


def message(of: Message) -> Seen:
    """What a message shows in its channel: its blocks, or its text if it has none.

    A link brings the effect `unfurl` unless the message is ephemeral or was posted with `unfurl_links` and
    `unfurl_media` false, https://docs.slack.dev/messaging/unfurling-links-in-messages
    """
    seen = blocks(of.blocks) if of.blocks else fallback(of)
    if of.only_for is None and not all(of.asked.get(name) in (False, "0", "false") for name in UNFURLING):
        seen.effects += [Effect("unfurl", url) for url in seen.of("link")]
    return seen


UNFURLING = ("unfurl_links", "unfurl_media")


def fallback(of: Message) -> Seen:
    """What the text of a message says in a notification and to a screen reader, and what would take effect there."""
    if of.asked.get("mrkdwn") in (False, "0", "false"):
        return Seen(mrkdwn.unescaped(of.text), [])
    return mrkdwn.read(of.text, verbatim=of.asked.get("parse") == "none")


def view(of: View) -> Seen:
    """What a modal shows."""
    seen = blocks([{"type": "header", "text": of.given["title"]}, *of.given["blocks"]])
    for name in ("submit", "close"):
        if name in of.given:
            _add(seen, _text(of.given[name]))
    return seen


def blocks(given: list[Json]) -> Seen:
    """What blocks show, one line for each thing."""
    seen = Seen()
    for block in given:
        for part in _parts(block):
            _add(seen, part)
    return seen


def _add(seen: Seen, part: Seen) -> None:
    seen.text += ("\n" if seen.text else "") + part.text
    seen.effects += part.effects


def _parts(block: Json) -> Iterator[Seen]:
    match block["type"]:
        case "section":
            yield from map(_text, [block["text"]] if "text" in block else [])
            yield from map(_text, block.get("fields", []))
            yield from map(_element, [block["accessory"]] if "accessory" in block else [])
        case "header":
            yield _text(block["text"])
        case "context" | "actions":
            yield from map(_element, block["elements"])
        case "image":
            yield from map(_text, [block["title"]] if "title" in block else [])
            yield _element(block)
        case "input":
            yield from map(_text, [block[name] for name in ("label", "hint") if name in block])
            yield _element(block["element"])
        case "rich_text":
            yield from map(_rich, block["elements"])
        case _:
            yield Seen("----")


def _text(given: Json) -> Seen:
    if given["type"] == "mrkdwn":
        return mrkdwn.read(given["text"], verbatim=bool(given.get("verbatim")))
    found = mrkdwn.emojis(given["text"]) if given.get("emoji", True) else []
    return Seen(mrkdwn.unescaped(given["text"]), found)


def _element(given: Json) -> Seen:
    match given["type"]:
        case "mrkdwn" | "plain_text":
            return _text(given)
        case "button":
            seen = _text(given["text"])
            return Seen(f"[{seen.text}]", [*seen.effects, *_links(given)])
        case "image":
            return Seen(given["alt_text"], [Effect("image", given["image_url"])])
        case "plain_text_input":
            return Seen(given.get("initial_value", ""))
        case _:
            seen = Seen()
            for option in given["options"]:
                _add(seen, _text(option["text"]))
            return seen


def _links(button: Json) -> list[Effect]:
    return [Effect("button link", button["url"])] if "url" in button else []


def _rich(part: Json) -> Seen:
    """A part of rich text: its characters are literal, and every effect is an element of its own."""
    if part["type"] == "rich_text_list":
        seen = Seen()
        for item in part["elements"]:
            _add(seen, _rich(item))
        return seen
    pieces = [_piece(piece) for piece in part["elements"]]
    seen = Seen("".join(piece.text for piece in pieces), [effect for piece in pieces for effect in piece.effects])
    kind = {"rich_text_preformatted": "preformatted", "rich_text_quote": "quote"}.get(part["type"])
    return Seen(seen.text, [*seen.effects, *([Effect(kind, seen.text)] if kind else [])])


def _piece(piece: Json) -> Seen:
    match piece["type"]:
        case "text":
            seen = Seen(piece["text"])
        case "link":
            seen = Seen(piece.get("text", piece["url"]), [Effect("link", piece["url"])])
        case "user":
            seen = Seen(f"@{piece['user_id']}", [Effect("user", piece["user_id"])])
        case "usergroup":
            seen = Seen(f"@{piece['usergroup_id']}", [Effect("group", piece["usergroup_id"])])
        case "channel":
            seen = Seen(f"#{piece['channel_id']}", [Effect("channel", piece["channel_id"])])
        case "broadcast":
            seen = Seen(f"@{piece['range']}", [Effect("broadcast", piece["range"])])
        case "emoji":
            seen = Seen(f":{piece['name']}:", [Effect("emoji", piece["name"])])
        case _:
            seen = Seen(piece.get("fallback", piece["format"]), [Effect("date", str(piece["timestamp"]))])
    styles = [name for name, on in piece.get("style", {}).items() if on]
    return Seen(seen.text, [*seen.effects, *(Effect(style, seen.text) for style in styles)])
