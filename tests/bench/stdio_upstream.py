"""The fast upstream as a command: one line in, one line out."""

from __future__ import annotations

import sys

from tests.bench.answers import Server

server = Server()
for line in sys.stdin.buffer:
    response = server.answer(line).body
    if response:
        sys.stdout.buffer.write(response + b"\n")
        sys.stdout.buffer.flush()
