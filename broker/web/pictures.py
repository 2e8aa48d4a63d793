"""Pictures in what agents and servers send: which text is one, told from its bytes alone.

What belongs here: base64 that is a still PNG, JPEG, GIF or WebP of bounded size, and how large it is. What does not:
what the sender calls it (never looked at), SVG and everything else (text), pages.

Only the head of a picture is read, as PNG (W3C, third edition), JPEG (ITU T.81), GIF89a and WebP (RFC 9649) lay it out;
pixels are the browser's to decode. Moving pictures are none: what they show is not all there when somebody looks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

LARGEST = 512 * 1024
"""Bytes of a picture."""

MOST_PIXELS = 16_000_000
"""Of one picture: what a browser unpacks takes four bytes for each."""

LONGEST_SIDE = 10_000

_SPACE = str.maketrans("", "", "\r\n\t ")
_STARTS = {"iVBORw0KGgo": "PNG", "/9j/": "JPEG", "R0lGOD": "GIF", "UklGR": "WebP"}
"""How the base64 of each begins."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A still picture. `form` is `PNG`, `JPEG`, `GIF` or `WebP`; `width` and `height` are in pixels."""

    form: str
    width: int
    height: int
    content: bytes

    @property
    def media_type(self) -> str:
        """What it is served as."""
        return f"image/{self.form.lower()}"

    @property
    def digest(self) -> str:
        """What it is found by: SHA-256 of its bytes, hex."""
        return hashlib.sha256(self.content).hexdigest()


def picture(text: str) -> Picture | None:
    """The picture that `text` is, as base64 with or without `data:…;base64,` before it; None when it is none."""
    encoded = text.partition(";base64,")[2] if text[:5] == "data:" else text
    if len(encoded) > 2 * LARGEST or not encoded.isascii():
        return None
    encoded = encoded.translate(_SPACE)
    form = next((form for start, form in _STARTS.items() if encoded.startswith(start)), None)
    if form is None:
        return None
    try:
        content = base64.b64decode(encoded, validate=True)
        width, height = _SIZES[form](content)
    except (binascii.Error, ValueError, IndexError):
        return None
    fits = 0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE and width * height <= MOST_PIXELS
    return Picture(form, width, height, content) if fits and len(content) <= LARGEST else None


def pictures(value: Any) -> Iterator[Picture]:
    """All that are in `value`, JSON."""
    if isinstance(value, str):
        found = picture(value)
        yield from (found,) if found is not None else ()
    elif isinstance(value, dict):
        for inner in cast("dict[str, Any]", value).values():
            yield from pictures(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from pictures(inner)


def _png(content: bytes) -> tuple[int, int]:
    _expect(content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR" and b"acTL" not in content)
    return _big(content, 16, 4), _big(content, 20, 4)


def _jpeg(content: bytes) -> tuple[int, int]:
    """From the frame header (SOF), which comes after segments that each say how long they are."""
    _expect(content[:2] == b"\xff\xd8")
    at = 2
    while True:
        _expect(content[at] == 0xFF)
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _big(content, at + 7, 2), _big(content, at + 5, 2)
        length = _big(content, at + 2, 2)
        _expect(length >= 2 and marker not in (0xD9, 0xDA))
        at += 2 + length


def _gif(content: bytes) -> tuple[int, int]:
    """The logical screen's; its only image has to lie within it."""
    _expect(content[:6] in (b"GIF87a", b"GIF89a"))
    width, height = _little(content, 6, 2), _little(content, 8, 2)
    images = list(_gif_images(content))
    _expect(len(images) == 1 and all(right <= width and bottom <= height for right, bottom in images))
    return width, height


def _gif_images(content: bytes) -> Iterator[tuple[int, int]]:
    """Where each image of a GIF ends: right and bottom."""
    at = 13 + _gif_colours(content[10])
    while (kind := content[at]) != 0x3B:
        _expect(kind in (0x21, 0x2C))
        if kind == 0x2C:
            left, top, width, height = (_little(content, at + offset, 2) for offset in (1, 3, 5, 7))
            yield left + width, top + height
            at += 11 + _gif_colours(content[at + 9])
        else:
            at += 2
        while length := content[at]:
            at += 1 + length
        at += 1


def _gif_colours(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _webp(content: bytes) -> tuple[int, int]:
    _expect(content[:4] == b"RIFF" and content[8:12] == b"WEBP")
    kind = content[12:16]
    if kind == b"VP8X":
        _expect(not content[20] & 0x02)  # animated
        return 1 + _little(content, 24, 3), 1 + _little(content, 27, 3)
    if kind == b"VP8L":
        _expect(content[20] == 0x2F)
        bits = _little(content, 21, 4)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    _expect(kind == b"VP8 " and content[23:26] == b"\x9d\x01\x2a")
    return _little(content, 26, 2) & 0x3FFF, _little(content, 28, 2) & 0x3FFF


_SIZES = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "WebP": _webp}


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError("no such picture")


def _big(content: bytes, at: int, size: int) -> int:
    _expect(len(content) >= at + size)
    return int.from_bytes(content[at : at + size], "big")


def _little(content: bytes, at: int, size: int) -> int:
    _expect(len(content) >= at + size)
    return int.from_bytes(content[at : at + size], "little")


def unpacked(block: Any) -> Any:
    """The base64 of a picture that a tool answered with, if that is all the block says; else the block as it is."""
    match block:
        case {"type": "image", "data": str(data), "mimeType": kind, **rest} if not rest:
            found = picture(data)
            return data if found is not None and found.media_type == kind else block
        case _:
            return block
