"""The library for CEL without its command line, which would bring a toolkit for terminals into every start.

What belongs here: importing it. What does not: using it (`expressions`).
"""

from __future__ import annotations

import sys
from types import ModuleType

_COMMAND_LINE = "cel.cli"

sys.modules[_COMMAND_LINE] = ModuleType(_COMMAND_LINE)  # what `cel` imports, and nothing here uses

from cel import Context, Program  # noqa: E402 - once there is something in the place of its command line
from cel import compile as compile_source  # noqa: E402

del sys.modules[_COMMAND_LINE]

__all__ = ["Context", "Program", "compile_source"]
