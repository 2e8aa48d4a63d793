"""What the demo plays on: a small git repository, and settings for a broker in front of a git server."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import policies
from broker.settings import ApprovalSettings, ServerSettings, Settings, StoreSettings, UpstreamSettings

UPSTREAM = "git"
POLICY = Path(policies.__file__).parent / "git.json"

AGENDA = "Agenda for Monday\n\n1. Who approves what the agents do?\n"
NEW_LINE = "2. Lunch\n"

# Nobody's own git configuration (hooks, signing, another editor) has a part in the demo.
_ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository of the demo's own."""

    folder: Path

    def git(self, *arguments: str) -> str:
        """Run git in it, and return what it printed.

        Raises:
            subprocess.CalledProcessError: git failed.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", "-C", str(self.folder), *arguments]
        done = subprocess.run(command, env=inherited | _ALONE, check=True, capture_output=True, text=True)  # noqa: S603 - our words
        return done.stdout.strip()

    def commits(self) -> list[str]:
        """The subjects of its commits, newest first."""
        return self.git("log", "--format=%s").splitlines()


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that is there before the broker starts."""

    repository: Repository
    settings: Settings
    timeout: timedelta


def make_stage(folder: Path, timeout: timedelta) -> Stage:
    """A repository with one commit and one staged change, and settings that keep everything in `folder`."""
    repository = _repository(folder / "notes")
    command = [sys.executable, "-m", "mcp_server_git", "--repository", str(repository.folder)]
    settings = Settings(
        server=ServerSettings(port=0, secret=f"file:{folder / 'broker.secret'}"),
        store=StoreSettings(url=f"sqlite:///{folder / 'broker.db'}"),
        upstreams={UPSTREAM: UpstreamSettings(command=command, env=_ALONE, policy=POLICY)},
        approvals=ApprovalSettings(timeout=timeout),
    )
    return Stage(repository, settings, timeout)


def _repository(folder: Path) -> Repository:
    folder.mkdir()
    repository = Repository(folder)
    agenda = folder / "agenda.txt"
    repository.git("init", "--quiet")
    repository.git("config", "user.name", "Demo agent")
    repository.git("config", "user.email", "agent@localhost")
    agenda.write_text(AGENDA)
    repository.git("add", agenda.name)
    repository.git("commit", "--quiet", "--message", "Start the agenda")
    agenda.write_text(AGENDA + NEW_LINE)
    repository.git("add", agenda.name)
    return repository
