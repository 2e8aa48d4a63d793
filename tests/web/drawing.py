"""Pictures as bytes, drawn by hand: small, and exactly as the formats lay them out."""

from __future__ import annotations

import base64
import struct
import zlib

GIF_HEAD = b"GIF89a\x01\0\x01\0\x80\0\0" + bytes(6)
GIF_IMAGE = b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A blue PNG, with `chunks` before its pixels; a large one has the pixels of a small one."""
    row = b"\0" + b"\x20\x40\xc0" * min(width, 64)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(row * min(height, 64))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def gif(images: int = 1) -> bytes:
    """A GIF of one pixel, which shows that many images one after the other."""
    return GIF_HEAD + images * GIF_IMAGE + b";"


def jpeg(width: int, height: int) -> bytes:
    """The head of a JPEG."""
    frame = struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\0"
    return b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0" + frame + b"\xff\xd9"


def webp(width: int, height: int, flags: int = 0) -> bytes:
    """The head of an extended WebP; flag 2 says that it moves."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def base64_of(content: bytes) -> str:
    """As agents and servers send it."""
    return base64.b64encode(content).decode()
