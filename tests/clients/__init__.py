"""MCP servers that people really use, through the broker, with the clients that they really use."""
