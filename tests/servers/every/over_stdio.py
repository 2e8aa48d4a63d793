"""The server as a command: `python -m tests.servers.every.over_stdio plain|odd`.

Beside the features it answers `test/received` with every message that it was sent.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.servers.every import legacy, modern
from tests.servers.every.session import Session, Turn, is_modern
from tests.servers.every.speech import Message, Style, line


async def main(style: Style) -> None:
    """Serve until the input ends."""
    received: list[Message] = []
    end = b"\n" if style is Style.PLAIN else b"\r\n"

    def write(message: Message) -> None:
        sys.stdout.buffer.write(line(message, style) + end)
        sys.stdout.buffer.flush()

    async def tell(turn: Turn) -> Message:
        return {"received": received[:-1]}

    session = Session(write)
    async for text in await _input():
        message: Message = json.loads(text)
        received.append(message)
        methods = modern.METHODS if is_modern(message) else legacy.METHODS
        session.take(message, {**methods, "test/received": tell}, write, lambda: None)


async def _input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    asyncio.run(main(Style(sys.argv[1])))
