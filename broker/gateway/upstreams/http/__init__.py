"""An upstream that speaks Streamable HTTP itself.

upstream (what answers prove, sessions) → pool (connections, kept apart by grant) → connection (HTTP/1.1 on one);
`fields` says which fields pass in either direction.
"""

from __future__ import annotations

from broker.gateway.upstreams.http.upstream import HttpUpstream

__all__ = ["HttpUpstream"]
