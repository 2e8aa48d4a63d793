"""The TypeScript SDKs against everything that can become of a held call; the Python SDKs: `make test`."""

from __future__ import annotations

import pytest

from tests.clients.matrix.cases import cases, wrong
from tests.clients.matrix.drivers import TYPESCRIPT
from tests.clients.matrix.plays import play
from tests.clients.matrix.stage import Broker


@pytest.mark.timeout(120)
async def test_every_call_ends_with_the_right_answer_and_effect_and_people_are_shown_the_truth_meanwhile(
    brokers: tuple[Broker, Broker],
) -> None:
    outcomes = await play(list(cases(TYPESCRIPT)), *brokers)
    assert wrong(outcomes) == []
