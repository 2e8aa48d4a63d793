"""MCP servers from npm through the broker: `make test-clients`."""
