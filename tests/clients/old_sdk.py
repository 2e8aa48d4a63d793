"""Where the `mcp` SDK 1.x is, which cannot be installed beside 2.x: a folder of its own in this environment.

`python -m tests.clients.old_sdk` installs it there. Looking for it never changes anything; only that command installs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VERSION = "1.30.0"
PLACE = Path(sys.prefix) / f"mcp-{VERSION}"


class NoOldSdk(Exception):
    """It is not there; the message says what to do."""


def find_old_sdk() -> Path:
    """The folder to import it from.

    Raises:
        NoOldSdk: it is not installed.
    """
    if not (PLACE / f"mcp-{VERSION}.dist-info").is_dir():
        raise NoOldSdk(f"mcp {VERSION} is not installed: `python -m tests.clients.old_sdk` installs it into {PLACE}.")
    return PLACE


def install() -> None:
    """Install it, unless it is there.

    Raises:
        NoOldSdk: pip failed.
    """
    if (PLACE / f"mcp-{VERSION}.dist-info").is_dir():
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip.append("--no-warn-conflicts")  # with what is beside that folder, which is the point of it
    command = [*pip, "--upgrade", "--target", str(PLACE), f"mcp=={VERSION}"]
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        raise NoOldSdk(f"pip could not install mcp {VERSION} (it says why above): the tests with it were not started.")


def main() -> None:
    """Install, or say what is missing and exit with 1."""
    try:
        install()
    except NoOldSdk as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
