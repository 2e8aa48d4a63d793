"""A process of its own that writes to a store: `python -m tests.store.appender URL NAME COUNT`."""

from __future__ import annotations

import asyncio
import sys

from broker.domain.audit import Event, Kind
from broker.domain.clock import SystemClock
from broker.store.writer import Store


async def append(url: str, name: str, count: int) -> None:
    """Write so many rows as `name`, several at a time, once a line comes on standard input."""
    store = Store(url, SystemClock())
    print("ready", flush=True)  # noqa: T201 - whoever started it waits for this word
    sys.stdin.readline()
    works = (
        store.write(lambda tx, n=n: tx.record(Event(kind=Kind.CALL_ALLOWED, actor=name, call_id=f"{name}-{n}")))
        for n in range(count)
    )
    await asyncio.gather(*works)
    store.close()


if __name__ == "__main__":
    asyncio.run(append(sys.argv[1], sys.argv[2], int(sys.argv[3])))
