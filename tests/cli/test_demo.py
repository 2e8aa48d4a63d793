"""The demo, as somebody runs it: a process of its own, told on standard output."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from broker.demo.story import MESSAGE
from tests.cli.conftest import Shell
from tests.crashes.process import started

TIME_LIMIT = 60.0

TOLD = {
    "approve": "Changes committed successfully",
    "reject": "Rejected by you@localhost: Lunch is not on the agenda.",
    "expire": "Nobody answered in time. Nothing ran.",
}


def processes_that_know(folder: str) -> list[str]:
    """The command lines of running processes that name `folder`."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if folder in line:
            found.append(line)
    return found


def folder_in(told: str) -> str:
    found = re.search(r"/\S*broker-demo-[^/\s]+", told)
    assert found, told
    return found[0]


@pytest.mark.parametrize("ending", ["approve", "reject", "expire"])
def test_it_plays_by_itself_to_each_end_and_neither_needs_settings_nor_leaves_anything(
    ending: str, shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (shell.folder / "broker.toml").write_text("this is no TOML")
    with started(shell.folder, "demo", "--auto", ending, log=tmp_path_factory.mktemp("log") / "log") as process:
        told = process.stdout.read()
        assert (process.wait(), process.log) == (0, "")
    assert TOLD[ending] in told
    log = told.split("the log now, newest first:\n")[1].splitlines()
    assert (log[0].strip() == MESSAGE) == (ending == "approve")
    assert "its hash chain is intact" in told
    assert not Path(folder_in(told)).exists()
    assert processes_that_know(folder_in(told)) == []
    assert sorted(path.name for path in shell.folder.iterdir()) == ["broker.toml"]  # nothing is written where it runs


def test_it_waits_for_a_person_behind_one_link_and_ends_cleanly_with_ctrl_c(shell: Shell) -> None:
    process = shell.start("demo")
    assert process.stdout is not None
    told = ""
    while "/sign-in?token=" not in told:
        line = process.stdout.readline()
        assert line, told
        told += line
    assert re.search(r"http://127\.0\.0\.1:\d+/sign-in\?token=bl_[\w-]+&next=/approvals/apr_\w+\n", told)
    assert processes_that_know(folder_in(told))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIME_LIMIT)
    assert (process.returncode, errors) == (130, "")
    assert not Path(folder_in(told)).exists()
    assert processes_that_know(folder_in(told)) == []


def test_what_is_missing_is_told_with_how_to_install_it(shell: Shell) -> None:
    said = shell.refused("demo", PATH="")
    assert said == "broker: The demo needs git: install it (Debian, Ubuntu: `apt install git`) and try again."
