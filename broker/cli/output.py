"""What commands print: tables on a terminal, tab-separated lines in a pipe, JSON for programs.

What belongs here: the way of any text to standard output. Text from agents, servers and people shows its hidden
characters as escapes, and is never markup. What does not: what there is to say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from broker.domain.text import visible

_COPIED = frozenset({"id", "seq", "at", "kind", "email", "left"})
_COLOURS = {
    "green": frozenset({"allow", "allows", "passed"}),
    "red": frozenset({"deny", "denies", "error", "limited", "failed"}),
    "yellow": frozenset({"hold", "holds"}),
}
"""What a colour means. It only repeats what the word beside it says."""


def say(line: str = "", style: str = "") -> None:
    """One line for people, at once, whoever reads it. Its hidden characters are shown.

    Args:
        style: how a terminal shows it, in the words of rich, such as ``bold red``.
    """
    if style and sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 - slow to import, and needed on terminals only
        from rich.text import Text  # noqa: PLC0415

        Console().print(Text(visible(line), style), soft_wrap=True)
    else:
        print(visible(line), flush=True)  # noqa: T201


def colour(word: str) -> str:
    """The colour that a verdict, or what a rule said, has on a terminal; nothing for other words."""
    return next((name for name, words in _COLOURS.items() if word in words), "")


def warn(line: str) -> None:
    """One line for people on standard error, so that it is no part of what a program reads."""
    print(visible(line), file=sys.stderr, flush=True)  # noqa: T201


def say_json(value: Any) -> None:
    """One line of ASCII JSON for programs."""
    print(json.dumps(value, separators=(",", ":")), flush=True)  # noqa: T201


def listing(columns: Sequence[str], items: Sequence[Mapping[str, Any]], *, as_json: bool, nothing: str) -> None:
    """A list of things.

    Args:
        columns: which keys of an item people see; JSON has them all.
        nothing: what a person is told of an empty list.
    """
    if as_json:
        say_json(items)
    elif not sys.stdout.isatty():
        for item in items:
            print("\t".join(cell(item.get(column)) for column in columns))  # noqa: T201
    elif items:
        _table(columns, items)
    else:
        say(nothing)


def facts(item: Mapping[str, Any]) -> None:
    """One thing, a line for each key."""
    width = max(map(len, item))
    for key, value in item.items():
        say(f"{key:{width}}  {cell(value)}")


def cell(value: Any) -> str:
    """A value in one line, hidden characters shown."""
    match value:
        case None:
            return "-"
        case str():
            return visible(value)
        case [*values] if all(isinstance(one, str) for one in values):
            return ", ".join(map(visible, values)) or "-"
        case _:
            return visible(json.dumps(value, ensure_ascii=False))


def _table(columns: Sequence[str], items: Sequence[Mapping[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - slow to import, and needed on terminals only
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Whole, on a second line if need be; but never what somebody copies.
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column in _COPIED)
    for item in items:
        table.add_row(*(Text(cell(item.get(column))) for column in columns))  # Text: no markup in it
    Console().print(table)
