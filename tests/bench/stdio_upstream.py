"""The fast upstream as a command: one line in, one line out."""

from __future__ import annotations

import sys

from tests.bench.answers import answer

for line in sys.stdin.buffer:
    _, response = answer(line)
    if response:
        sys.stdout.buffer.write(response + b"\n")
        sys.stdout.buffer.flush()
