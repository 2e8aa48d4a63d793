"""The tests' own surroundings: databases, the clock, the rule that CI does not skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from tests.postgres import PostgresServer

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("turn", ["first", "second"])
def test_every_test_gets_a_database_of_its_own(store_url: str, turn: str) -> None:
    engine = sa.create_engine(store_url)
    with engine.begin() as connection:
        tables = sa.inspect(connection).get_table_names()
        assert "approvals" in tables
        assert [name for name in tables if name.startswith("left_by")] == []
        connection.execute(sa.text(f"CREATE TABLE left_by_the_{turn}_turn (id integer)"))
    engine.dispose()


def test_a_new_database_holds_what_its_template_holds(postgres: PostgresServer) -> None:
    template = postgres.new_database()
    engine = sa.create_engine(template, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE in_the_template (id integer)"))
    copy = sa.create_engine(postgres.new_database(template), poolclass=sa.NullPool)
    assert sa.inspect(copy).get_table_names() == ["in_the_template"]


def test_a_killed_test_run_takes_its_postgresql_server_along() -> None:
    program = "from tests.postgres import *\nwith running_postgres() as server: print(server.new_database()); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        engine = sa.create_engine(run.stdout.readline().strip(), poolclass=sa.NullPool)
        with engine.connect() as connection:
            run.kill()
            with pytest.raises(OperationalError):
                connection.execute(sa.text("SELECT pg_sleep(60)"))


@pytest.mark.parametrize(
    ("body", "ci", "status"),
    [
        ("pass", "true", pytest.ExitCode.OK),
        ("pytest.skip('not here')", "true", pytest.ExitCode.TESTS_FAILED),
        ("pytest.xfail('not yet')", "true", pytest.ExitCode.TESTS_FAILED),
        ("pytest.skip('not here')", "", pytest.ExitCode.OK),
    ],
)
def test_what_is_left_out_fails_in_ci_only(body: str, ci: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\ndef test_it():\n    {body}\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.left_out", "-c", os.devnull, "--rootdir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": ci}
    run = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert run.returncode == status, run.stdout
