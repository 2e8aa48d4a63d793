"""A broker whose Slack does not take its token, and one that stops while somebody clicks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from broker.domain.approvals import State
from broker.store import approvals as stored
from broker.store.writer import Store
from integrations.slack.choices import APPROVE
from tests.gateway.scene import block
from tests.integrations.slack.stage import Stage, furnished, opened, staged
from tests.servers import BOUND, PAUSE
from tests.servers.scripted import Scripted
from tests.servers.slack import APP_TOKEN


async def slack_in_readyz(stage: Stage) -> dict[str, Any]:
    """What `/readyz` says of Slack."""
    async with stage.scene.http.get(f"{stage.scene.broker.url}/readyz") as answer:
        return (await answer.json())["channels"]["slack"]


async def test_a_broker_that_slack_does_not_let_connect_works_and_says_what_to_do(
    tmp_path: Path, server: Scripted
) -> None:
    async with furnished() as slack:
        slack.revoke(APP_TOKEN)
        async with opened(tmp_path, server, slack, "socket") as stage:
            held = await stage.held()
            async with asyncio.timeout(BOUND):
                while (told := await slack_in_readyz(stage))["ok"]:  # noqa: ASYNC110
                    await asyncio.sleep(PAUSE)
            assert "slack.app_token" in told["error"]
            await stage.scene.decide(held.approval_id)
            assert block(await held.answer.message())["status"] == "approved"


async def test_what_was_clicked_just_before_the_broker_stops_counts(tmp_path: Path, server: Scripted) -> None:
    async with staged(tmp_path, server, "http") as stage:
        ann, held = await stage.known("ann"), await stage.held("two")
        stage.slack.order("slow 0.1", "users.info")
        assert not (await stage.slack.click(ann, held.message, APPROVE)).failed
        url, clock = str(stage.scene.broker.store.engine.url), stage.clock
        approval_id, email = held.approval_id, ann.email
        held.answer.leave()
    store = Store(url, clock)
    found = store.read_now(lambda session: stored.get(session, approval_id))
    store.close()
    assert found is not None
    assert (found.state, [review.by for review in found.reviews]) == (State.PENDING, [email])
