"""The store, for one command. Commands use it with or without a running server; it notices what they changed."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from broker.cli.lasting import lasting
from broker.domain.clock import SystemClock
from broker.domain.text import visible

if TYPE_CHECKING:
    from sqlmodel import Session

    from broker.settings import Settings
    from broker.store.writer import Store, Transaction

T = TypeVar("T")


def settings(config: Path | None) -> Settings:
    """The settings of this command.

    Raises:
        SettingsError: they are wrong.
    """
    from broker.settings import load_settings  # noqa: PLC0415 - pydantic-settings is slow to import

    return load_settings(config)


def change(config: Path | None, work: Callable[[Transaction], T]) -> T:
    """Run `work` in a transaction that is on disk when this returns."""
    with _opened(config) as store:
        return asyncio.run(store.write(work, durable=True))


def read(config: Path | None, query: Callable[[Session], T]) -> T:
    """Run a query."""
    with _opened(config) as store:
        return store.read_now(query)


def actor() -> str:
    """Who does it, for the record: the user of the operating system."""
    try:
        return f"cli:{visible(getpass.getuser())}"
    except (KeyError, OSError):  # a user id without a name, as in a container
        import os  # noqa: PLC0415

        return f"cli:{os.getuid()}"


def instant(value: Any) -> str | None:
    """An instant as it is printed."""
    from broker.domain.audit import timestamp  # noqa: PLC0415

    return timestamp(value) if value is not None else None


@contextmanager
def _opened(config: Path | None) -> Generator[Store]:
    with lasting():
        from broker.store.writer import Store  # noqa: PLC0415 - SQLAlchemy is slow to import

    store = Store(settings(config).store_url(), SystemClock())
    try:
        yield store
    finally:
        store.close()
