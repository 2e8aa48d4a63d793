"""Plays the matrix and prints it as the docs show it: `python -m tests.clients.matrix [--write]`.

With `--write` it goes into docs/clients.md. The clients from npm are left out where there is no Node; then it is only
printed. What does not belong here: anything but that.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.clients.matrix.cases import Case, Outcome, cases, expected, wrong
from tests.clients.matrix.drivers import PYTHON, TYPESCRIPT
from tests.clients.matrix.page import table, write
from tests.clients.matrix.plays import play
from tests.clients.matrix.stage import broker
from tests.clients.nodejs import NoNode, find_node
from tests.clients.old_sdk import install
from tests.servers.scripted import scripted


async def _played() -> dict[Case, Outcome | str]:
    there = [PYTHON, TYPESCRIPT]
    try:
        find_node()
    except NoNode as missing:
        sys.stderr.write(f"{missing}\n")
        there.pop()
    outcomes = dict[Case, Outcome | str]()
    for clients in there:  # one after the other, or a small machine keeps calls waiting longer than people do
        with tempfile.TemporaryDirectory() as steady, tempfile.TemporaryDirectory() as restarted:
            async with (
                scripted() as server,
                broker(Path(steady), f"sqlite:///{steady}/broker.db", server) as one,
                broker(Path(restarted), f"sqlite:///{restarted}/broker.db", server) as other,
            ):
                outcomes |= await play(list(cases(clients)), one, other)
    return outcomes


def main() -> None:
    """Play and print; exit with 1 if anything is not as it has to be."""
    install()
    outcomes = asyncio.run(_played())
    if paragraphs := wrong(outcomes):
        sys.exit("\n".join([*paragraphs, f"{len(paragraphs)} of {len(outcomes)} cases are not as they have to be."]))
    shown = table({case: expected(case) for case in outcomes})
    sys.stdout.write(shown)
    if "--write" in sys.argv and {case.client for case in outcomes} == {*PYTHON, *TYPESCRIPT}:
        write(shown)


if __name__ == "__main__":
    main()
