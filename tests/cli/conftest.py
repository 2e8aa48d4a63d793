"""A command line of its own for each test, in a folder with its own settings and store.

Commands run in this process, since each of their own would spend a second on imports; `Shell.start` makes a real one.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.cli import main

ROOT = Path(__file__).parents[2]

SETTINGS = """\
[upstreams.git]
command = ["git-server"]

[upstreams.desktop]
url = "http://127.0.0.1:9/mcp"
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Shell:
    """Runs `broker …` in a folder, as a user who has set nothing of the broker's but what a test gives."""

    folder: Path

    def run(self, *arguments: str, **environment: str) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as here, redirect_stdout(out), redirect_stderr(err):
            here.chdir(self.folder)
            for name in [name for name in os.environ if name.startswith("BROKER_")]:
                here.delenv(name)
            for name, value in environment.items():
                here.setenv(name, value)
            here.setattr(sys, "argv", ["broker", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        status = ended.value.code
        return Ended(status if isinstance(status, int) else 1 if status else 0, out.getvalue(), err.getvalue())

    def start(self, *arguments: str, program: str | None = None) -> subprocess.Popen[str]:
        """The same in a process of its own, which the caller ends; `program` is run in place of the command."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, *(("-c", program) if program else ("-m", "broker.cli")), *arguments],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self, *arguments: str, **environment: str) -> Sequence[str]:
        """What a command that has to succeed printed."""
        done = self.run(*arguments, **environment)
        assert done.status == 0, done.stderr
        return done.stdout.splitlines()

    def json(self, *arguments: str, **environment: str) -> Any:
        """The same with `--json` after the command's own arguments."""
        (line,) = self.lines(*arguments, "--json", **environment)
        return json.loads(line)

    def refused(self, *arguments: str, status: int = 1, **environment: str) -> str:
        """The one line of error of a command that has to fail with `status`."""
        done = self.run(*arguments, **environment)
        assert done.status == status, (done.stdout, done.stderr)
        (line,) = done.stderr.splitlines()
        return line


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "broker.toml").write_text(SETTINGS)
    return Shell(tmp_path)
