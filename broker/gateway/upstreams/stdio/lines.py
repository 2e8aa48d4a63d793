"""Bytes of a child process as lines, and a line as text.

What belongs here: cutting and escaping. Pure: no I/O.
"""

from __future__ import annotations


class Lines:
    """Cuts a stream into lines, in linear time.

    Args:
        limit: how many bytes a line may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def too_long(self) -> bool:
        """Whether the line that has not ended is over the limit."""
        return self._size > self._limit

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        first, *others = data.split(b"\n")
        self._pieces.append(first)
        self._size += len(first)
        if not others:
            return []
        lines = [b"".join(self._pieces), *others[:-1]]
        self._pieces, self._size = [others[-1]], len(others[-1])
        return lines

    def take_rest(self) -> bytes:
        """The line that has not ended."""
        rest = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return rest


def printable(line: bytes) -> str:
    """Text of a server in a log: what could steer a terminal is shown as an escape."""
    text = line.decode(errors="backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
