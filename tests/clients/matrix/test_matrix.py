"""The Python SDKs, before a broker on SQLite and before two on PostgreSQL; those from npm: `make test-clients`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.matrix.cases import cases, expected, wrong
from tests.clients.matrix.drivers import PYTHON, Client
from tests.clients.matrix.page import table, written
from tests.clients.matrix.plays import play
from tests.clients.matrix.stage import broker
from tests.servers.scripted import Scripted


@pytest.mark.timeout(120)
@pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)
async def test_every_call_ends_with_the_right_answer_and_effect_and_people_are_shown_the_truth_meanwhile(
    new_store_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, server: Scripted
) -> None:
    async with (
        broker(tmp_path_factory.mktemp("steady"), new_store_url(), server) as steady,
        broker(tmp_path_factory.mktemp("restarted"), new_store_url(), server) as restarted,
    ):
        outcomes = await play(PYTHON, steady, restarted)
    assert list(outcomes) == list(cases(PYTHON))
    assert wrong(outcomes) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("new_store_url", ["postgresql"], indirect=True)
async def test_the_same_is_true_where_agents_are_at_one_process_and_people_at_another(
    new_store_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, server: Scripted
) -> None:
    folders = [tmp_path_factory.mktemp(name) for name in ("steady", "beside", "restarted", "beside")]
    async with (
        broker(folders[0], new_store_url(), server, desk=folders[1]) as steady,
        broker(folders[2], new_store_url(), server, desk=folders[3]) as restarted,
    ):
        assert wrong(await play(PYTHON, steady, restarted)) == []


def test_the_docs_show_the_matrix() -> None:
    assert written() == table({case: expected(case) for case in cases(Client)})
