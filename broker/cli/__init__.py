"""The `broker` command: one module for each noun.

What belongs here: reading arguments, calling the store or the HTTP API, showing what came of it. What does not: rules.
Modules that take long to import are imported by the command that needs them, so that `--help` is there at once.
"""

from __future__ import annotations

from broker.cli.main import main

__all__ = ["main"]
