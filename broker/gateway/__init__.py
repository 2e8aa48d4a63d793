"""The MCP side: agents come in at `/mcp/{upstream}`, upstreams are reached from here.

endpoint (ASGI) → gate (judge, record, forward) → holds (wait for people) → upstreams (http, stdio). `wire` knows
JSON-RPC, SSE and the two eras; `catalog` knows the tools that servers describe. The data plane parses the JSON-RPC
envelope only, never typed models, so that whatever an upstream says passes through.
"""
