"""The record from the command line: searching, taking out, verifying with and without the store."""

from __future__ import annotations

import asyncio
import csv
import json
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.domain.audit import Event, Kind
from broker.domain.calls import Call, arguments_digest
from broker.domain.canonical import Keyring
from broker.domain.clock import SystemClock
from broker.domain.exports import COLUMNS
from broker.domain.people import GrantRef
from broker.settings import load_settings
from broker.store.writer import Store, Transaction
from tests.cli.conftest import Shell

TAMPERINGS: list[tuple[Callable[[list[str]], list[str]], int]] = [
    (lambda lines: [lines[0], lines[1].replace("bob", "eve"), lines[2]], 2),
    (lambda lines: [lines[0], lines[2]], 2),
    (lambda lines: [lines[1], lines[0], lines[2]], 1),
    (lambda lines: lines[1:], 1),
]


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose store has three rows."""
    for name in ("alice@x.org", "bob@x.org", "carol@x.org"):
        shell.lines("user", "add", name, "--group", "=1+1")
    return shell


def alter(shell: Shell, statement: str) -> None:
    connection = sqlite3.connect(shell.folder / "broker.db")
    with connection:
        connection.execute(statement)
    connection.close()


def test_search_finds_by_text_and_by_time_newest_first(shell: Shell) -> None:
    assert [row["seq"] for row in shell.json("audit", "search")] == [3, 2, 1]
    (bob,) = shell.json("audit", "search", "bob@")
    assert bob["detail"]["person"] == "bob@x.org"
    assert shell.json("audit", "search", "--until", "2020-01-01") == []
    assert len(shell.json("audit", "search", "--since", "2020-01-01T00:00:00Z", "--kind", "person.saved")) == 3
    assert [row["seq"] for row in shell.json("audit", "search", "--limit", "1")] == [3]


def test_an_export_is_verified_anywhere_without_a_store(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    told = shell.json("audit", "export", "--format", "jsonl", "--output", "out.jsonl")
    assert told == {"file": "out.jsonl", "rows": 3}
    elsewhere = Shell(tmp_path_factory.mktemp("elsewhere"))
    verified = elsewhere.json("audit", "verify", str(shell.folder / "out.jsonl"))
    assert shell.json("audit", "verify") == verified | {"calls": None}  # no secret was ever needed here
    assert verified["rows"] == 3
    assert list(elsewhere.folder.iterdir()) == []


def test_an_export_goes_to_standard_output_as_well(shell: Shell) -> None:
    lines = shell.lines("audit", "export")
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]


def test_an_exported_file_is_nobody_elses_even_if_it_was_there(shell: Shell) -> None:
    path = shell.folder / "out.jsonl"
    path.write_text("something longer than the export " * 100)
    path.chmod(0o644)
    shell.lines("audit", "export", "--output", "out.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().splitlines()) == 3


def test_csv_is_for_spreadsheets_and_defused(shell: Shell) -> None:
    alter(shell, "UPDATE audit SET actor = '=cmd()' WHERE seq = 1")
    shell.lines("audit", "export", "--format", "csv", "--output", "out.csv")
    with (shell.folder / "out.csv").open(newline="") as file:
        header, first, *_ = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert first[COLUMNS.index("actor")] == "'=cmd()"


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE audit SET actor = 'cli:nobody' WHERE seq = 2", 2),
        ("UPDATE audit SET detail = '{}' WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 1", 1),
    ],
)
def test_a_store_that_was_tampered_with_is_found_with_its_first_broken_row(
    statement: str, seq: int, shell: Shell
) -> None:
    alter(shell, statement)
    assert f"broken at row {seq}:" in shell.refused("audit", "verify")


@pytest.mark.parametrize(("tamper", "seq"), TAMPERINGS)
def test_an_export_that_was_tampered_with_is_found_with_its_first_broken_row(
    tamper: Callable[[list[str]], list[str]], seq: int, shell: Shell
) -> None:
    lines = list(shell.lines("audit", "export"))
    (shell.folder / "out.jsonl").write_text("\n".join(tamper(lines)) + "\n")
    assert f"broken at row {seq}:" in shell.refused("audit", "verify", "out.jsonl")


@pytest.mark.parametrize("content", [b"no json\n", b"\xff\xfe", b"{}\n"])
def test_what_is_no_export_is_told_in_one_line(content: bytes, shell: Shell) -> None:
    Path(shell.folder / "out.jsonl").write_bytes(content)
    said = shell.refused("audit", "verify", "out.jsonl")
    assert "Line 1 is not a row of an audit export" in said or "cannot be read" in said


def test_a_file_that_is_not_there_is_told_in_one_line(shell: Shell) -> None:
    assert "No such file" in shell.refused("audit", "verify", "nowhere.jsonl")
    assert "No such file" in shell.refused("audit", "export", "--output", "no/where.jsonl")


@pytest.mark.parametrize("value", ["x'ff00'", "CAST(x'ff00' AS TEXT)"])
def test_a_row_whose_text_is_no_text_any_more_is_named(value: str, shell: Shell) -> None:
    alter(shell, f"UPDATE audit SET actor = {value} WHERE seq = 2")
    assert "broken at row 2:" in shell.refused("audit", "verify")
    assert "broken at row 2:" in shell.refused("audit", "export", "--output", "out.jsonl")


def test_a_store_without_the_end_of_its_chain_is_told_in_one_line(shell: Shell) -> None:
    alter(shell, "DELETE FROM chain_head")
    assert "does not say where its audit chain ends" in shell.refused("audit", "verify")


def test_a_record_that_was_cut_off_is_found_by_a_head_that_was_noted(shell: Shell) -> None:
    whole = shell.json("audit", "verify")
    noted = f"{whole['rows']}:{whole['digest']}"
    assert any(noted in line for line in shell.lines("audit", "verify"))
    lines = shell.lines("audit", "export")
    (shell.folder / "whole.jsonl").write_text("\n".join(lines) + "\n")
    (shell.folder / "cut.jsonl").write_text("\n".join(lines[:2]) + "\n")
    assert shell.json("audit", "verify", "--head", noted)["rows"] == 3
    assert shell.json("audit", "verify", "whole.jsonl", "--head", noted)["rows"] == 3
    assert "broken at row 3: it is missing" in shell.refused("audit", "verify", "cut.jsonl", "--head", noted)
    other = f"2:{'0' * 64}"
    assert "broken at row 2: its digest is not the one" in shell.refused("audit", "verify", "--head", other)
    assert shell.run("audit", "verify", "--head", "3").status == 2


def test_an_empty_export_verifies_nothing(shell: Shell) -> None:
    (shell.folder / "out.jsonl").touch()
    assert "out.jsonl is empty: there is nothing to verify." in shell.refused("audit", "verify", "out.jsonl")


def record_call(shell: Shell) -> None:
    """An allowed call as row 4, with what it carried, under the secret of the shell's settings."""
    keyring = Keyring(load_settings(shell.folder / "broker.toml").secrets())
    call = Call("call_1", "git", "git_add", {"name": "git_add", "arguments": {"files": ["a"]}}, GrantRef("g", "l", "o"))
    event = Event(
        kind=Kind.CALL_ALLOWED, actor="agent:g", call_id=call.id, arguments_digest=arguments_digest(keyring, call)
    )

    def work(tx: Transaction) -> None:
        tx.record(event)
        tx.keep(call.id, "arguments", dict(call.params))

    store = Store(f"sqlite:///{shell.folder / 'broker.db'}", SystemClock())
    asyncio.run(store.write(work))
    store.close()


def test_a_call_that_is_kept_otherwise_than_it_was_recorded_is_found_with_its_row(shell: Shell) -> None:
    record_call(shell)
    assert shell.json("audit", "verify")["calls"] == 1
    alter(shell, "UPDATE contents SET body = replace(body, '\"a\"', '\"b\"')")
    assert "kept for row 4 is not the one that was recorded" in shell.refused("audit", "verify")
    alter(shell, "DELETE FROM contents")
    assert shell.json("audit", "verify")["calls"] == 0


def test_without_the_secret_it_says_that_calls_were_not_compared_and_makes_none(shell: Shell) -> None:
    record_call(shell)
    (shell.folder / "broker.secret").unlink()
    assert shell.json("audit", "verify")["calls"] is None
    assert any("were not compared" in line and "No such file" in line for line in shell.lines("audit", "verify"))
    assert not (shell.folder / "broker.secret").exists()


def test_a_kind_that_is_never_recorded_is_told_with_the_nearest(shell: Shell) -> None:
    ended = shell.run("audit", "search", "--kind", "call.denid")
    assert ended.status == 2
    assert "the nearest is call.denied" in " ".join(ended.stderr.split())
