"""Opening a store: the tables, their migrations, and who may open it at the same time."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from broker.domain.audit import verify
from broker.errors import SettingsError, StoreError, StoreLocked
from broker.store import approvals, audit, held, people, slots
from broker.store.engine import make_engine, serve_lock
from broker.store.schema import HEAD, MIGRATIONS
from broker.store.tables import Base
from broker.store.writer import Store
from tests.clock import NOON, MovableClock
from tests.domain.values import charge
from tests.warm import warm

ROOT = Path(__file__).parents[2]
AT_ONCE = 6
FIRST_APPROVAL: dict[str, Any] = {
    "id": "apr_1",
    "state": "pending",
    "call_id": "call_1",
    "upstream": "git",
    "tool": "push",
    "params": '{"name":"push","arguments":{"a":1}}',
    "grant_id": "grant_1",
    "grant_label": "ci",
    "grant_owner": "o@example.com",
    "fingerprint": "f",
    "revision": "f",
    "rule": "default",
    "requirement": '{"approvers":[],"quorum":2,"timeout":null,"channels":[],"allow_self":false}',
    "created_at": 0,
    "deadline": 1,
    "caller": "gone",
}
"""What the first version wrote of a held call, as the database has it."""


def opened(url: str) -> None:
    Store(url, MovableClock()).close()


def execute(url: str, statement: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


# -- tables -----------------------------------------------------------------------------------------------------------


def test_the_migrations_make_exactly_the_tables_of_the_code(empty_url: str) -> None:
    opened(empty_url)
    engine = make_engine(empty_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_code_knows_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_store_opens_again_with_what_was_in_it(empty_url: str) -> None:
    opened(empty_url)
    execute(empty_url, "INSERT INTO people VALUES ('a@example.com', '[]', '[]', 0, NULL)")
    opened(empty_url)
    store = Store(empty_url, MovableClock())
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT email FROM people")).scalars().all() == ["a@example.com"]
    store.close()


def test_a_store_of_the_first_version_opens_with_its_approvals(empty_url: str) -> None:
    engine = make_engine(empty_url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in FIRST_APPROVAL]
        was = sa.table("approvals", *columns)
        connection.execute(sa.insert(was).values(FIRST_APPROVAL))
    engine.dispose()
    store = Store(empty_url, MovableClock())
    found = store.read_now(lambda session: approvals.get(session, "apr_1"))
    store.close()
    assert found is not None
    assert (found.call.arguments, found.sealed, found.requirement.quorum) == ({"a": 1}, None, 2)


def test_several_threads_may_open_a_new_store_at_once(empty_url: str) -> None:
    barrier = Barrier(AT_ONCE)

    def open_it() -> None:
        barrier.wait(timeout=10)
        opened(empty_url)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for opening in [pool.submit(open_it) for _ in range(AT_ONCE)]:
            opening.result(timeout=60)


def test_a_new_file_that_another_process_is_busy_with_is_waited_for(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool, closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opening = pool.submit(opened, f"sqlite:///{tmp_path / 'new.db'}")
        with pytest.raises(TimeoutError):
            opening.result(timeout=0.3)
        other.execute("ROLLBACK")
        opening.result(timeout=20)


def test_several_processes_may_open_a_new_store_at_once(empty_url: str) -> None:
    command = warm("tests.store.appender", empty_url, "x", "0")
    openings = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for opening in openings:
        out, error = opening.communicate(timeout=60)
        assert (out, error) == (b"ready\n", b"")


def test_limits_of_an_older_store_go_on_counting(empty_url: str) -> None:
    engine = make_engine(empty_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for call_id, at in (("call_1", NOON), ("call_2", None), ("call_3", NOON - timedelta(seconds=30))):
            connection.execute(
                sa.text("INSERT INTO slots VALUES (:call, :counter, :at, 0)"),
                {
                    "call": call_id,
                    "counter": '["desk", "presses", "grant", "grant_1"]',
                    "at": slots.micros(at) if at else None,
                },
            )
    engine.dispose()
    store = Store(empty_url, MovableClock())

    def room(seconds: int) -> list[int]:
        """The least maxima that admit another call, with and without tidying up."""
        with store.engine.connect() as connection, connection.begin() as transaction:
            found: list[int] = []
            for _ in range(2):
                now = NOON + timedelta(seconds=seconds)
                fits = (n for n in range(9) if slots.full(connection, [charge(maximum=n)], slots.micros(now)) is None)
                found.append(next(fits))
                slots.forget_old(connection, now)
            transaction.rollback()
        return found

    assert [room(seconds) for seconds in (0, 29, 32, 59, 62)] == [[4, 4], [4, 4], [3, 3], [3, 3], [2, 2]]
    asyncio.run(store.write(lambda tx: held.give_back(tx.connection, "call_2")))
    assert room(62) == [1, 1]
    store.close()


def test_a_store_of_a_newer_broker_is_refused_and_left_as_it_is(store_url: str) -> None:
    execute(store_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"written by a newer broker: nothing was changed; install that version"):
        opened(store_url)
    engine = sa.create_engine(store_url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["missing/broker.db", "a-file/broker.db", "a-folder"])
def test_a_file_that_cannot_be_made_is_refused_with_its_path(place: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "a-folder").mkdir()
    with pytest.raises(StoreError, match=rf"^The store {tmp_path / place} cannot be opened: [A-Za-z ]+\.$"):
        opened(f"sqlite:///{tmp_path / place}")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broker.db").write_text("these are the notes of last week's meeting\n" * 100)
    with pytest.raises(StoreError, match=r"^The store cannot be opened: .+\.$"):
        opened(f"sqlite:///{tmp_path / 'broker.db'}")


def test_a_server_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^The store cannot be opened: .+\.$"):
        opened(f"postgresql://postgres@/broker?host={tmp_path}")


@pytest.mark.parametrize(
    "url", ["", "broker.db", "sqlite://", "sqlite:///:memory:", "mysql://localhost/broker", "\x00"]
)
def test_a_url_of_another_kind_is_a_mistake_in_the_settings(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^store\.url: "):
        opened(url)


def test_all_files_of_a_store_are_only_the_owners(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    store = Store(url, MovableClock())
    with serve_lock(url), store.engine.connect() as connection:
        connection.execute(sa.text("SELECT count(*) FROM people"))
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    store.close()
    assert set(modes) >= {"broker.db", "broker.db-wal", "broker.db-shm", "broker.db.lock"}
    assert set(modes.values()) == {0o600}


# -- the lock of a server ---------------------------------------------------------------------------------------------

HOLDER = """
import sys
from broker.store.engine import serve_lock
with serve_lock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)
def test_a_second_server_on_one_file_is_refused_until_the_first_is_dead(store_url: str) -> None:
    command = [sys.executable, "-c", HOLDER, store_url]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "locked\n"
        with (
            pytest.raises(StoreLocked, match=r"Another `broker serve` already uses .+\. Stop it"),
            serve_lock(store_url),
        ):
            pytest.fail("two servers at once")
        opened(store_url)  # a command may still use the store
        first.kill()
    with serve_lock(store_url):
        pass


@pytest.mark.parametrize("new_store_url", ["postgresql"], indirect=True)
def test_a_database_may_be_shared_by_servers(store_url: str) -> None:
    with serve_lock(store_url), serve_lock(store_url):
        opened(store_url)


def test_a_file_that_is_opened_twice_in_one_process_loses_nothing_to_another_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    first, second = Store(url, MovableClock()), Store(url, MovableClock())
    second.close()
    appending = warm("tests.store.appender", url, "other", "1")
    subprocess.run(appending, cwd=ROOT, input="\n", check=True, text=True, stdout=subprocess.DEVNULL, timeout=60)
    execute(url, "INSERT INTO people VALUES ('a@example.com', '[]', '[]', 0, NULL)")
    assert [person.email for person in first.read_now(people.everyone)] == ["a@example.com"]
    assert first.read_now(lambda session: [row.actor for row in audit.stream(session)]) == ["other"]
    asyncio.run(first.write(lambda tx: people.save(tx, "a", "b@example.com", frozenset(), frozenset())))
    first.close()
    again = Store(url, MovableClock())
    assert again.read_now(lambda session: verify(audit.stream(session), audit.head(session))).seq == 2
    again.close()
