"""How the story is told: who says what, one line at a time, and a calm line while everybody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from broker.domain.text import visible

_VOICES = {"agent": "cyan", "broker": "magenta", "you": "bold yellow", "git": "green"}
_MARGIN = " " * 9


class Terminal:
    """Standard output; colours and the waiting line only where somebody looks at it."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    @property
    def watched(self) -> bool:
        """Whether somebody looks at it, who can press Ctrl-C."""
        return self._console.is_terminal

    def title(self, text: str) -> None:
        """What the following is about."""
        self._console.print()
        self._print(Text(text, style="bold"))

    def says(self, voice: str, text: str) -> None:
        """One line of somebody: `agent`, `broker`, `you` or `git`."""
        self._print(Text.assemble((f"{voice:>7}", _VOICES[voice]), "  ", visible(text)))

    def more(self, text: str) -> None:
        """What was said, shown or printed, below the line that it belongs to; each line of its own."""
        for line in text.expandtabs(4).splitlines():
            self._print(Text(f"{_MARGIN}{visible(line)}", style="dim"))

    def note(self, text: str) -> None:
        """A line to remember: a link, a command."""
        self._print(Text(f"{_MARGIN}{visible(text)}", style="bold"))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A small table."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(visible(value)) for value in row))
        self._console.print(table)

    @asynccontextmanager
    async def waiting(self, for_what: str, until: datetime) -> AsyncGenerator[None]:
        """Show the time that is left, while the context lasts."""
        if not self.watched:
            yield
            return
        with self._console.status("") as status:
            counting = asyncio.create_task(_count_down(status, for_what, until))
            try:
                yield
            finally:
                counting.cancel()
                with suppress(asyncio.CancelledError):
                    await counting

    def _print(self, line: Text) -> None:
        self._console.print(line)


async def _count_down(status: Status, for_what: str, until: datetime) -> None:
    while True:
        left = max(0, round((until - datetime.now(UTC)).total_seconds()))
        status.update(Text(f"{for_what}, {left // 60}:{left % 60:02} left (Ctrl-C ends the demo)"))
        await asyncio.sleep(1)
