"""`broker demo`: the whole story in one command (`broker.demo`)."""

from __future__ import annotations

import gc
from enum import StrEnum
from typing import Annotated

import typer


class Ending(StrEnum):
    """How a demo that plays by itself ends."""

    APPROVE = "approve"
    REJECT = "reject"
    EXPIRE = "expire"


def demo(
    auto: Annotated[Ending | None, typer.Option(help="Play it without a person, to this end.")] = None,
) -> None:
    """Show the whole story on this machine: a real MCP server, a scripted agent, and you as the reviewer."""
    gc.disable()  # what is imported stays, and is not looked through for garbage
    from broker.demo import run  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    raise typer.Exit(run(auto.value if auto else None))
