"""Ready-made policies for real MCP servers: package data, found with ``Path(policies.__file__).parent``."""
