"""The MCP side: agents come in at `/mcp/{upstream}`, upstreams are reached from here.

endpoint (ASGI: who asks, with `grants` and `inbound`) → gate (judge, forward) → `record` (rows and limits) → upstreams
(http, stdio) → `delivery` (the answer, and what `outcome` it tells) → the caller. A held call goes by `holds` (wait for
people, on a `line` to the caller) and `execution` (run what was approved). `eras` and `catalog` ask an upstream what it
speaks and which tools it has. `jsonrpc`, `wire` (MCP around it) and `sse` are the forms in which things travel,
`replies` and `refusals` answers made or changed here.

The data plane parses the JSON-RPC envelope only, never typed models, so that whatever an upstream says passes through.
"""
