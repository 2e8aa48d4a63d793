"""Every route, asked by everybody: each role, nobody, a forged form, another person's token."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount

from broker.domain.approvals import Decision
from broker.policy.language.schema import policy_schema
from broker.store import people
from broker.web import identity
from tests.web.desk import Desk, person
from tests.web.drawing import png
from tests.web.stream import listening

DOT = png(1, 1)
EVERYBODY = ("admin", "approver", "auditor", "policy_manager", "owner", "nobody")
OPEN = dict.fromkeys(EVERYBODY, 200) | {"anonymous": 200}
READ_AUDIT = {"admin": 200, "approver": 403, "auditor": 200, "policy_manager": 403, "owner": 403, "nobody": 403}
READ_POLICIES = {"admin": 200, "approver": 403, "auditor": 200, "policy_manager": 200, "owner": 403, "nobody": 403}
DECIDE = {"admin": 200, "approver": 200, "auditor": 403, "policy_manager": 403, "owner": 403, "nobody": 403}
WITHDRAW = dict.fromkeys(EVERYBODY, 403) | {"admin": 200}
ONE = {"admin": 200, "approver": 200, "auditor": 200, "policy_manager": 404, "owner": 200, "nobody": 404}
PERSONAL = dict.fromkeys(EVERYBODY, 200)
API, PAGE = {"anonymous": 401}, {"anonymous": 303}

EXPECTED: dict[tuple[str, str], dict[str, int]] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/api/openapi.json"): OPEN,
    ("GET", "/api/v1/policies/schema"): OPEN,
    ("GET", "/api/v1/approvals"): PERSONAL | API,
    ("GET", "/api/v1/approvals/{approval_id}"): ONE | API,
    ("POST", "/api/v1/approvals/{approval_id}/decision"): DECIDE | API,
    ("POST", "/api/v1/approvals/{approval_id}/withdraw"): WITHDRAW | API,
    ("POST", "/api/v1/approvals/{approval_id}/forget"): DECIDE | API,
    ("GET", "/api/v1/audit"): READ_AUDIT | API,
    ("GET", "/api/v1/audit/export"): READ_AUDIT | API,
    ("GET", "/api/v1/audit/head"): READ_AUDIT | API,
    ("GET", "/api/v1/events"): {"admin": 200, "approver": 200, "auditor": 200}
    | dict.fromkeys(("policy_manager", "owner", "nobody"), 403)
    | API,
    ("GET", "/api/v1/policies"): READ_POLICIES | API,
    ("GET", "/"): PERSONAL | PAGE,
    ("GET", "/queue/events"): {"admin": 200, "approver": 200, "auditor": 200}
    | dict.fromkeys(("policy_manager", "owner", "nobody"), 403)
    | PAGE,
    ("POST", "/decisions"): DECIDE | {"anonymous": 401},
    ("GET", "/approvals/{approval_id}"): ONE | PAGE,
    ("GET", "/approvals/{approval_id}/confirm"): ONE | PAGE,
    ("GET", "/approvals/{approval_id}/{part}.json"): ONE | PAGE,
    ("GET", "/approvals/{approval_id}/pictures/{digest}"): ONE | PAGE,
    ("POST", "/approvals/{approval_id}/decision"): {**DECIDE, "admin": 303, "approver": 303} | {"anonymous": 401},
    ("POST", "/approvals/{approval_id}/withdraw"): {**WITHDRAW, "admin": 303} | {"anonymous": 401},
    ("POST", "/approvals/{approval_id}/forget"): {**DECIDE, "admin": 303, "approver": 303} | {"anonymous": 401},
    ("GET", "/audit"): READ_AUDIT | PAGE,
    ("GET", "/audit/{seq}"): READ_AUDIT | PAGE,
    ("GET", "/policies"): READ_POLICIES | PAGE,
    ("GET", "/sessions"): PERSONAL | PAGE,
    ("POST", "/sessions/end"): dict.fromkeys(EVERYBODY, 404) | {"anonymous": 401},  # no session is named
    ("GET", "/sign-in"): OPEN,
    ("POST", "/sign-in"): dict.fromkeys((*EVERYBODY, "anonymous"), 404),  # no link is given
    ("GET", "/sign-in/provider"): dict.fromkeys((*EVERYBODY, "anonymous"), 404),  # there is none
    ("GET", "/sign-in/callback"): dict.fromkeys((*EVERYBODY, "anonymous"), 403),  # it was not begun
    ("POST", "/sign-out"): dict.fromkeys(EVERYBODY, 303) | {"anonymous": 401},
}
"""What everybody gets. A held call of `owner`'s agent is asked for; a rejected one where it is to be forgotten."""

WRITES_OF_SOMEBODY = [key for key in EXPECTED if key[0] == "POST" and key[1] != "/sign-in"]


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        if isinstance(route, Mount):
            assert route.path == "/static", f"{route.path} is mounted without a guard"
            continue
        assert isinstance(route, APIRoute), f"{route} has no guard"
        assert isinstance(route, identity.GuardedRoute), f"{route.path} has no guard"
        yield from ((method, route.path) for method in route.methods or ())


@pytest.fixture
def store_url(sqlite_url: str) -> str:
    """One engine: who may what does not depend on it."""
    return sqlite_url


async def test_anybody_may_read_the_schema_of_policies(desk: Desk) -> None:
    answer = await desk.client().get("/api/v1/policies/schema")
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json() == policy_schema()


async def test_every_route_there_is_has_an_expectation_and_every_expectation_a_route(desk: Desk) -> None:
    assert set(routes(desk.app)) == set(EXPECTED)
    assert set(identity.PERMISSIONS) == set(EXPECTED)


async def ask(desk: Desk, client: httpx2.AsyncClient, method: str, path: str, csrf: str | None) -> int:
    held = await desk.hold(arguments={"nth": desk.calls, "picture": base64.b64encode(DOT).decode()})
    if path.endswith("/forget"):
        await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web")
    address = path.format(approval_id=held.id, seq="1", part="call", digest=hashlib.sha256(DOT).hexdigest())
    if method == "GET" and path.endswith("/events"):
        async with listening(desk.app, client, address) as heard:
            return heard.status
    if method == "GET":
        return (await client.get(address)).status_code
    body: dict[str, Any] = {"decision": "approve"}
    if path.startswith("/api/"):
        headers = {"X-CSRF-Token": csrf} if csrf else {}
        return (await client.post(address, json=body, headers=headers)).status_code
    form = {"item": f"{held.id} {held.revision}"} if path == "/decisions" else {}
    return (await client.post(address, data=body | form | ({"csrf": csrf} if csrf else {}))).status_code


@pytest.mark.parametrize(("method", "path"), EXPECTED)
async def test_a_browser_gets_what_its_role_allows(desk: Desk, method: str, path: str) -> None:
    for name in EVERYBODY:
        client = await desk.browser(name)
        got = await ask(desk, client, method, path, await desk.csrf(client))
        assert got == EXPECTED[method, path][name], f"{name} {method} {path}"


@pytest.mark.parametrize(("method", "path"), EXPECTED)
async def test_an_api_token_gets_what_its_person_may(desk: Desk, method: str, path: str) -> None:
    for name in EVERYBODY:
        expected = 403 if path in ("/sign-out", "/sessions/end") else EXPECTED[method, path][name]
        assert await ask(desk, await desk.program(name), method, path, None) == expected, f"{name} {method} {path}"


@pytest.mark.parametrize(("method", "path"), EXPECTED)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer bt_invented"}, {"Cookie": "broker_session=bs_x"}])
async def test_whoever_proves_nothing_gets_only_what_is_open(
    desk: Desk, method: str, path: str, headers: dict[str, str]
) -> None:
    assert await ask(desk, desk.client(**headers), method, path, None) == EXPECTED[method, path]["anonymous"]


@pytest.mark.parametrize(("method", "path"), WRITES_OF_SOMEBODY)
async def test_a_write_without_the_token_of_its_own_session_does_nothing(desk: Desk, method: str, path: str) -> None:
    client = await desk.browser("admin")
    of_another_person = await desk.csrf(await desk.browser("approver"))
    of_another_session = await desk.csrf(await desk.browser("admin"))
    for forged in (None, "", "0" * 64, of_another_person, of_another_session):
        assert await ask(desk, client, method, path, forged) == 403, repr(forged)
    found = (await client.get("/api/v1/approvals")).json()["items"]
    untouched = "rejected" if path.endswith("/forget") else "pending"
    assert {(each["state"], each["forgotten_at"]) for each in found} == {(untouched, None)}
    assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize(("method", "path"), [key for key in EXPECTED if key[0] == "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:8751"},
        {"Origin": "https://127.0.0.1:8750"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_write_from_another_site_does_nothing(
    desk: Desk, method: str, path: str, headers: dict[str, str]
) -> None:
    client = await desk.browser("admin")
    csrf = await desk.csrf(client)
    client.headers.update(headers)
    assert await ask(desk, client, method, path, csrf) == 403


@pytest.mark.parametrize(("method", "path"), EXPECTED)
async def test_another_name_than_the_brokers_is_answered_only_by_the_probes(desk: Desk, method: str, path: str) -> None:
    client = await desk.browser("admin")
    csrf = await desk.csrf(client)
    client.headers["Host"] = "rebound.example:8750"
    probe = path in ("/healthz", "/readyz")
    assert await ask(desk, client, method, path, csrf) == (200 if probe else 421)


@pytest.mark.parametrize("name", ["127.0.0.1:8750", "localhost:8750", "[::1]:8750"])
async def test_every_loopback_name_of_a_broker_on_loopback_is_its_own(desk: Desk, name: str) -> None:
    assert (await desk.client(Host=name).get("/sign-in")).status_code == 200


async def test_a_person_without_a_role_sees_the_calls_of_their_own_agents_and_no_others(desk: Desk) -> None:
    await desk.hold()
    for name, count in (("owner", 1), ("nobody", 0), ("policy_manager", 0), ("approver", 1), ("auditor", 1)):
        items = (await (await desk.program(name)).get("/api/v1/approvals")).json()["items"]
        assert len(items) == count, name


async def test_a_role_that_was_taken_away_is_gone_with_the_next_request(desk: Desk) -> None:
    client = await desk.browser("approver")
    held = await desk.hold()
    csrf = await desk.csrf(client)
    await desk.store.write(lambda tx: people.save(tx, "cli:test", "approver@example.com", frozenset(), frozenset()))
    got = await client.post(
        f"/api/v1/approvals/{held.id}/decision", json={"decision": "approve"}, headers={"X-CSRF-Token": csrf}
    )
    assert got.status_code == 403
    assert got.json()["code"] == "forbidden"
