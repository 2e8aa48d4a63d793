"""The Python SDKs against everything that can become of a held call; those from npm: `make test-clients`."""

from __future__ import annotations

import pytest

from tests.clients.matrix.cases import cases, expected, wrong
from tests.clients.matrix.drivers import PYTHON, Client
from tests.clients.matrix.page import table, written
from tests.clients.matrix.plays import play
from tests.clients.matrix.stage import Broker


@pytest.mark.timeout(120)
async def test_every_call_ends_with_the_right_answer_and_effect_and_people_are_shown_the_truth_meanwhile(
    brokers: tuple[Broker, Broker],
) -> None:
    wanted = list(cases(PYTHON))
    if brokers[0].desk is not None:  # two processes and a database cost twice as much, and these choices do not meet
        wanted = [case for case in wanted if case.token != case.limited]
    outcomes = await play(wanted, *brokers)
    assert wrong(outcomes) == []


def test_the_docs_show_the_matrix() -> None:
    assert written() == table({case: expected(case) for case in cases(Client)})
