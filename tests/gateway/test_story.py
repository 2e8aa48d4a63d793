"""The story: a commit waits for a person, whatever the client's era and however its server is reached."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.domain.approvals import Decision
from tests.gateway.scene import APPROVER, ERAS, Agent, Repository, Scene, block, text, told, tool_call
from tests.servers import TRANSPORTS

pytestmark = [pytest.mark.parametrize("transport", TRANSPORTS), pytest.mark.parametrize("era", ERAS)]


async def committed(agent: Agent, upstream: str, era: str, repository: Repository, message: str) -> Any:
    """What the agent hears when it commits something."""
    repository.stage(message)
    async with agent.client(upstream, era) as client:
        return await client.call_tool("git_commit", {"repo_path": str(repository.path), "message": message})


async def test_an_approved_commit_is_made_once_and_its_result_says_who_approved(
    scene: Scene, agent: Agent, repository: Repository, era: str, transport: str
) -> None:
    message = f"approved {era} {transport}"
    asking = asyncio.ensure_future(committed(agent, f"git-{transport}", era, repository, message))
    approval = await scene.submitted(agent)
    assert message not in repository.log()
    await scene.decide(approval)
    result = await asking
    assert not result.is_error
    assert text(result).startswith("Changes committed successfully with hash")
    assert repository.log().count(message) == 1
    assert told(result) == {
        "status": "approved",
        "approval_id": approval,
        "rule": "tools.git_commit.action",
        "reviewers": [APPROVER.email],
    }
    assert (await scene.broker.approvals.get(approval)).state == "succeeded"


async def test_a_rejected_commit_is_not_made_and_the_agent_hears_who_said_no_and_why(
    scene: Scene, agent: Agent, repository: Repository, era: str, transport: str
) -> None:
    message = f"rejected {era} {transport}"
    asking = asyncio.ensure_future(committed(agent, f"git-{transport}", era, repository, message))
    approval = (await scene.review(agent, Decision.REJECT, reason="not on a Friday")).id
    result = await asking
    assert result.is_error
    assert text(result) == f"Rejected by {APPROVER.email}: not on a Friday. Nothing ran. Do not try this call again."
    facts = told(result)
    assert (facts["status"], facts["retry"], facts["approval_id"]) == ("rejected", "never", approval)
    assert (facts["reason"], facts["reviewers"]) == ("not on a Friday", [APPROVER.email])
    assert facts["rule"] == "tools.git_commit.action"
    assert facts["review_url"] == f"{scene.broker.url}/approvals/{approval}"
    assert message not in repository.log()


async def test_a_commit_that_nobody_answers_expires_and_is_not_made(
    scene: Scene, agent: Agent, repository: Repository, era: str, transport: str
) -> None:
    message = f"expired {era} {transport}"
    result = await committed(agent, f"brief-{transport}", era, repository, message)
    assert result.is_error
    assert text(result) == "Nobody answered in time. Nothing ran. A new call asks again."
    facts = told(result)
    assert (facts["status"], facts["retry"], facts["cause"]) == ("expired", "ask", "unanswered")
    assert message not in repository.log()
    assert (await scene.broker.approvals.get(facts["approval_id"])).state == "expired"


async def test_the_wire_says_what_each_era_wants(
    scene: Scene, agent: Agent, repository: Repository, era: str, transport: str
) -> None:
    """`resultType` is on every result since 2026-07-28, and on none before; the upstream's own keys stay."""
    repository.stage(f"wire {era} {transport}")
    request = tool_call("git_commit", {"repo_path": str(repository.path), "message": f"wire {era} {transport}"}, 7)
    session = None
    if era == "legacy":
        del request["params"]["_meta"]
        session = await agent.open(f"git-{transport}")
    answers: list[dict[str, Any]] = []
    for nth, decision in enumerate((Decision.APPROVE, Decision.REJECT), 1):
        held = await agent.send(f"git-{transport}", request, session=session)
        assert (held.status, held.headers["content-type"]) == (200, "text/event-stream")
        await scene.review(agent, decision, nth=nth)
        answers.append(await held.message())
    approved, rejected = answers
    assert [answer["id"] for answer in answers] == [7, 7]
    assert [block(answer)["status"] for answer in answers] == ["approved", "rejected"]
    assert rejected["result"]["isError"] is True
    assert approved["result"]["content"][0]["text"].startswith("Changes committed")
    wanted = {"resultType": "complete"} if era == "auto" else {}
    assert {key: value for key, value in rejected["result"].items() if key == "resultType"} == wanted
    assert {key: value for key, value in approved["result"].items() if key == "resultType"} == wanted
