"""The real mcp-server-git over Streamable HTTP: `python -m tests.servers.git_http REPOSITORY` prints its URL first."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import uvicorn
from mcp_server_git.server import create_server


def main(repository: Path) -> None:
    """Serve until killed."""
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp\n")
    sys.stdout.flush()
    app = create_server(repository).streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
