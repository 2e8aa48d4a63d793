"""An upstream that is a command.

upstream (which process serves whom, HTTP's side of sessions) → session or shared (what a server says of its own accord,
by era) → connection (requests and answers) → process (pipes, the system's side). `exchange`, `readers`, `backlog`: what
is under way, what waits to be read, what waits for a reader; `alarm`: time; `lines`, `tree`: a process's output and its
children.
"""

from __future__ import annotations

from broker.gateway.upstreams.stdio.upstream import StdioUpstream

__all__ = ["StdioUpstream"]
