"""`broker connect`: the broker's `/mcp/{upstream}` for MCP clients that can only start a command.

stdio (lines of the client) → relay (which line is what) → exchange (one request until its answer) → http (the broker).
`legacy` and `modern` know what their era asks of a client. What belongs here: the part of an MCP client that a
transport is. What does not: what is in a message, beyond its envelope; it passes as it came.
"""
