"""What a server that is started sees of the broker's own environment.

What belongs here: the few variables. What does not: what the settings add to them.
"""

from __future__ import annotations

import os

INHERITED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""As MCP's SDK has it for the servers that its clients start: what programs need, and no secrets."""


def inherited() -> dict[str, str]:
    """Those that are set, without functions of a shell (``()`` begins one), which a shell would run."""
    found = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {name: value for name, value in found.items() if not value.startswith("()")}
