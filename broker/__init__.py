"""The approval broker: an MCP gateway with a human in it."""
