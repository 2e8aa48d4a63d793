"""What a reader sees of text in mrkdwn, and what in it takes effect: mentions, links, formatting, emoji.

What belongs here: one text. What does not: blocks and messages (reading.py).
Source: https://docs.slack.dev/messaging/formatting-message-text
Where that page leaves room, text takes effect here: so a test that finds no effect holds for Slack too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Effect:
    """Something in a text that is more than its characters.

    Attributes:
        kind: `user`, `group`, `channel` or `broadcast` (mentions), `link`, `date`, `emoji`, `bold`, `italic`,
            `strike`, `code`, `preformatted`, `quote`.
        what: an id, the range of a broadcast, a URL, an emoji's name, or the text that is formatted.
    """

    kind: str
    what: str


@dataclass
class Seen:
    """What a reader sees, as plain text, and the effects in it."""

    text: str = ""
    effects: list[Effect] = field(default_factory=list[Effect])

    def kinds(self) -> set[str]:
        """The kinds of effects that there are."""
        return {effect.kind for effect in self.effects}

    def of(self, *kinds: str) -> list[str]:
        """What the effects of these kinds concern, in their order."""
        return [effect.what for effect in self.effects if effect.kind in kinds]


MENTIONS = ("user", "group", "channel", "broadcast")

_CONTROL = re.compile(r"<([^<>\n]*)>")
_FENCE = re.compile(r"```(.+?)```", re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_QUOTE = re.compile(r"^(?:>|&gt;)+ ?(.*)$", re.MULTILINE)
_EMOJI = re.compile(r"(?<!\w):([a-z0-9_+'-]+(?:::skin-tone-[2-6])?):(?!\w)")
_FORMATS = {
    "bold": re.compile(r"(?<![\w*])\*(?=\S)([^*\n]*[^*\s])\*(?![\w*])"),
    "italic": re.compile(r"(?<![\w_])_(?=\S)([^_\n]*[^_\s])_(?![\w_])"),
    "strike": re.compile(r"(?<![\w~])~(?=\S)([^~\n]*[^~\s])~(?![\w~])"),
}
_AUTOMATIC = {
    "link": re.compile(
        r"(?<![\w@.+-])((?:https?://|mailto:|www\.)[^\s|]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:[a-z0-9-]+\.)+"
        r"(?:com|org|net|io|dev|co|app|ai|gov|edu|info|xyz|uk|de|fr)\b(?:/\S*)?)",
        re.IGNORECASE,
    ),
    "broadcast": re.compile(r"(?<!\w)@(here|channel|everyone)\b"),
    "channel": re.compile(r"(?<![\w&])#([a-z0-9][a-z0-9_-]*)"),
}
"""What is parsed although nothing marks it, unless `verbatim` is true."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def read(text: str, *, verbatim: bool = False) -> Seen:
    """What a reader sees of mrkdwn."""
    seen = Seen()
    shown = _CONTROL.sub(lambda found: _control(found[1], found[0], seen), text)
    if not verbatim:
        for kind, pattern in _AUTOMATIC.items():
            seen.effects += [Effect(kind, unescaped(found[1])) for found in pattern.finditer(shown)]
    for pattern, kind in ((_FENCE, "preformatted"), (_CODE, "code")):
        shown = pattern.sub(lambda found, kind=kind: _literal(found[1], kind, seen), shown)
    shown = _QUOTE.sub(lambda found: _formatted(found[1], "quote", seen), shown)
    seen.effects += [Effect("emoji", found[1]) for found in _EMOJI.finditer(shown)]
    for kind, pattern in _FORMATS.items():
        shown = pattern.sub(lambda found, kind=kind: _formatted(found[1], kind, seen), shown)
    seen.text = _plain(shown)
    return seen


def emojis(text: str) -> list[Effect]:
    """The emoji in text that is plain otherwise."""
    return [Effect("emoji", found[1]) for found in _EMOJI.finditer(text)]


def unescaped(text: str) -> str:
    """Text with the three entities that Slack knows; https://docs.slack.dev/messaging/formatting-message-text#escaping"""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


_HIDE = {ord(each): 0xF0000 + ord(each) for each in "*_~`:<>&@#./"}
_SHOW = {hidden: plain for plain, hidden in _HIDE.items()}


def _hide(text: str) -> str:
    """Text in which nothing takes effect any more, until it is shown."""
    return unescaped(text).translate(_HIDE)


def _plain(text: str) -> str:
    return unescaped(text).translate(_SHOW)


def _literal(text: str, kind: str, seen: Seen) -> str:
    seen.effects.append(Effect(kind, _plain(text)))
    return _hide(text)


def _formatted(text: str, kind: str, seen: Seen) -> str:
    seen.effects.append(Effect(kind, _plain(text)))
    return text


def _control(inner: str, whole: str, seen: Seen) -> str:
    """One `<…>`, https://docs.slack.dev/messaging/formatting-message-text#advanced; gives what is seen of it."""
    target, bar, label = inner.partition("|")
    mark, name = target[:1], target[1:]
    if mark in ("@", "#") and re.fullmatch(r"[A-Z0-9]{2,}", name):
        seen.effects.append(Effect("user" if mark == "@" else "channel", name))
        return _hide(mark + (label or name))
    if mark == "!":
        return _special(name, label, seen)
    if _SCHEME.match(target) or "@" in target or target.startswith("//"):
        seen.effects.append(Effect("link", unescaped(target)))
        return _hide(label if bar else target)
    return _hide(whole)


def _special(name: str, label: str, seen: Seen) -> str:
    command, *rest = name.split("^")
    match command:
        case "subteam" if rest:
            seen.effects.append(Effect("group", rest[0]))
        case "date":
            seen.effects.append(Effect("date", "^".join(rest[:2])))
            seen.effects += [Effect("link", unescaped(url)) for url in rest[2:]]
        case _:
            seen.effects.append(Effect("broadcast", command))
    return _hide(label or f"@{command}")
