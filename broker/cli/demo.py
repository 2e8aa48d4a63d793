"""`broker demo`: the whole story in one command (`broker.demo`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from broker.cli.lasting import lasting


class Ending(StrEnum):
    """How a demo that plays by itself ends."""

    APPROVE = "approve"
    REJECT = "reject"
    EXPIRE = "expire"


def demo(
    auto: Annotated[Ending | None, typer.Option(help="Play it without a person, to this end.")] = None,
) -> None:
    """Show the whole story on this machine: a real MCP server, a scripted agent, and you as the reviewer."""
    with lasting():
        from broker.demo import run  # noqa: PLC0415 - everything is imported there

    raise typer.Exit(run(auto.value if auto else None))
