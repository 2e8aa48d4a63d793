"""The whole story on one machine: a real MCP server, the broker, a scripted agent, and a person who decides.

stage (what there has to be) → agent, reviewer (who acts) → terminal (how it is told) → story (what happens). Nothing
here is part of a running broker, and everything it shows is real.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

from broker.demo.stage import make_stage
from broker.demo.story import play
from broker.demo.terminal import Terminal
from broker.errors import BrokerError

TIME_TO_DECIDE = timedelta(minutes=5)
TIME_TO_EXPIRE = timedelta(seconds=3)

INTERRUPTED = 130
"""The exit status of what Ctrl-C ended."""


def run(ending: str | None) -> int:
    """Play the demo.

    Args:
        ending: `approve`, `reject` or `expire` plays it without a person.

    Returns:
        The exit status: 0 when the story ended as it should, 1 when not, 130 when it was interrupted.

    Raises:
        BrokerError: something that it needs is not installed.
    """
    _check_needs()
    logging.basicConfig(level=logging.ERROR)  # the story is told by the demo itself
    timeout = TIME_TO_EXPIRE if ending == "expire" else TIME_TO_DECIDE
    with tempfile.TemporaryDirectory(prefix="broker-demo-") as folder:
        stage = make_stage(Path(folder), timeout)
        try:
            as_it_should = asyncio.run(play(stage, Terminal(), ending))
        except KeyboardInterrupt:  # before the broker was there to hear it
            as_it_should = None
    return INTERRUPTED if as_it_should is None else 0 if as_it_should else 1


def _check_needs() -> None:
    if importlib.util.find_spec("mcp_server_git") is None:
        raise BrokerError("The demo needs mcp-server-git: install it with `pip install 'approval-broker[demo]'`.")
    if shutil.which("git") is None:
        raise BrokerError("The demo needs git: install it (Debian, Ubuntu: `apt install git`) and try again.")
