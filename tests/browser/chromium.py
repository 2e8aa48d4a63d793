"""Where the Chromium for the browser tests is; arranges one when there is none.

`python -m tests.browser.chromium` prints its path. Looking for one never changes anything; only that command installs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ADVICE = (
    "There is no Chromium that runs, and none could be installed: the browser tests were not started. "
    "Install Chromium (Debian: apt-get install chromium) or name one in BROKER_CHROMIUM, then run this again."
)


class NoChromium(Exception):
    """There is no Chromium that runs; the message says what to do."""


def find_chromium() -> str:
    """The path of a Chromium that runs: the one named in BROKER_CHROMIUM, or one on the PATH, or Playwright's own.

    Raises:
        NoChromium: none of them does, or the one in BROKER_CHROMIUM does not.
    """
    if named := os.environ.get("BROKER_CHROMIUM"):
        if _runs(named):
            return named
        raise NoChromium(f"BROKER_CHROMIUM names {named}, which does not run: correct it or unset it.")
    with sync_playwright() as playwright:
        places = (*map(shutil.which, NAMES), playwright.chromium.executable_path)
    for place in places:
        if place and _runs(place):
            return place
    raise NoChromium(ADVICE)


def arrange_chromium() -> str:
    """The path of a Chromium that runs, installed if need be: by Playwright, else as root by apt-get.

    Raises:
        NoChromium: neither way led to one.
    """
    if os.environ.get("BROKER_CHROMIUM"):
        return find_chromium()
    with suppress(NoChromium):
        return find_chromium()
    _install(sys.executable, "-m", "playwright", "install", "--no-shell", "chromium")
    with suppress(NoChromium):
        return find_chromium()
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _install("apt-get", "update")
        _install("apt-get", "install", "-y", "--no-install-recommends", "chromium")
    return find_chromium()


def _runs(program: str) -> bool:
    """Whether `program` starts: one without its shared libraries, or a snap's stand-in, does not."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _install(*command: str) -> None:
    """Run an installer, ten minutes at most; whether it helped is seen by looking again."""
    sys.stderr.write(f"+ {' '.join(command)}\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdout=sys.stderr, env=environment, timeout=600)


def main() -> None:
    """Print the path, or say what to install and exit with 1."""
    try:
        sys.stdout.write(f"{arrange_chromium()}\n")
    except NoChromium as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
