"""The API against its own OpenAPI document: what schemathesis makes of it breaks nothing, and no answer surprises."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx2
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.domain.approvals import Decision
from broker.domain.calls import Escalation, Memory, Requirement, Said, Step
from tests.clock import MovableClock
from tests.web.desk import Desk, close_desk, open_desk, person
from tests.web.test_policies import in_force

LIBRARY: Any = schemathesis  # its types are not whole
CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
BOUNDED = settings(
    max_examples=20,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
STEP = Step("tools.git_push.action", Said.HOLDS, saw="hold")
OPERATIONS = 12
"""All of them but the stream of events, which does not end."""


def cases(operation: Any, held: str) -> st.SearchStrategy[Any]:
    """Requests as described, and requests that break the description; about what is there, and about anything."""
    ways: list[dict[str, Any]] = (
        [{}, {"path_parameters": {"approval_id": held}}] if "{approval_id}" in operation.path else [{}]
    )
    modes = [LIBRARY.GenerationMode.POSITIVE]
    if operation.query or operation.body or operation.path_parameters:
        modes.append(LIBRARY.GenerationMode.NEGATIVE)
    return st.one_of(*[operation.as_strategy(mode, **way) for mode in modes for way in ways])


async def sent(client: httpx2.AsyncClient, case: Any) -> httpx2.Response:
    """The answer to a request that the client signs, whatever token schemathesis made up."""
    made: dict[str, Any] = case.as_transport_kwargs(base_url=str(client.base_url))
    headers = {name: value for name, value in made["headers"].items() if name.lower() != "authorization"}
    body = json.dumps(made["json"]).encode() if "json" in made else made.get("data") or b""
    return await client.request(made["method"], made["url"], params=made.get("params"), content=body, headers=headers)


async def a_day(desk: Desk) -> str:
    """Something of every shape that is answered with; returns the id of what waits."""
    desk.in_force["git"] = in_force()
    asked = Requirement(
        quorum=2,
        escalate=Escalation(timedelta(minutes=5), ("oncall",)),
        remember=Memory(("exact",), timedelta(hours=1)),
    )
    ran, refused, held = await desk.hold(), await desk.hold(), await desk.hold(requirement=asked, steps=(STEP,))
    reviews = desk.approvals.reviews
    await reviews.review(ran.id, person("approver"), Decision.APPROVE, channel="web")
    await desk.run(ran, {"content": []})
    await reviews.review(refused.id, person("approver"), Decision.REJECT, channel="api", reason="not now")
    await reviews.review(held.id, person("approver"), Decision.APPROVE, channel="web")
    return held.id


def test_whatever_is_asked_is_answered_as_described(sqlite_url: str, clock: MovableClock) -> None:
    with asyncio.Runner() as runner:
        desk = runner.run(open_desk(sqlite_url, clock))
        client = runner.run(desk.program("admin"))
        document = runner.run(client.get("/api/openapi.json")).json()
        described = LIBRARY.openapi.from_dict(document).exclude(path="/api/v1/events")
        operations = [found.ok() for found in described.get_all_operations()]
        assert len(operations) == OPERATIONS
        held = runner.run(a_day(desk))
        checks = LIBRARY.checks.CHECKS.get_by_names(CHECKS)
        answered = set[str]()

        def answers_hold(case: Any) -> None:
            answer = runner.run(sent(client, case))
            case.validate_response(answer, checks=checks)
            assert answer.status_code != 401
            if answer.status_code == 200:
                answered.add(case.operation.label)

        for operation in operations:
            BOUNDED(given(cases(operation, held))(answers_hold))()
        assert {found.label for found in operations if found.method == "get"} <= answered
        runner.run(close_desk(desk))


async def test_a_body_that_is_no_text_is_refused_with_a_sentence(sqlite_url: str, clock: MovableClock) -> None:
    desk = await open_desk(sqlite_url, clock)
    client = await desk.program("admin")
    held = await desk.hold()
    headers = {"Content-Type": "application/json"}
    answer = await client.post(f"/api/v1/approvals/{held.id}/decision", content=b"\xff", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert answer.json()["detail"] == "The request could not be read: nothing was done."
    await close_desk(desk)
