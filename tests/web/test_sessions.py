"""The page of sessions: where somebody is signed in, and ending that."""

from __future__ import annotations

from datetime import timedelta

import httpx2
import pytest

from broker.domain.audit import Kind
from broker.domain.people import Role
from broker.store import audit, people
from broker.store.people import CredentialKind
from broker.web.sessions import browser_name
from tests.clock import MovableClock
from tests.web.desk import Desk

CHROME = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"


@pytest.fixture
def store_url(sqlite_url: str) -> str:
    """What the desk has its store on."""
    return sqlite_url


async def signed_in(desk: Desk, name: str, agent: str = CHROME) -> httpx2.AsyncClient:
    client = desk.client(**{"User-Agent": agent})
    await client.post("/sign-in", data={"token": await desk.secret(name, CredentialKind.LINK)})
    return client


async def sessions(client: httpx2.AsyncClient) -> list[str]:
    """The ids that somebody may end, newest first."""
    page = (await client.get("/sessions")).text
    return [part.split('"', 1)[0] for part in page.split('name="session" value="')[1:]]


async def is_in(client: httpx2.AsyncClient) -> bool:
    return (await client.get("/")).status_code == 200


async def test_somebody_sees_where_they_are_signed_in_and_ends_what_they_do_not_know(
    desk: Desk, clock: MovableClock
) -> None:
    here = await signed_in(desk, "approver")
    clock.advance(timedelta(minutes=1))
    there = await signed_in(desk, "approver", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0")
    page = (await here.get("/sessions")).text
    assert "Chrome on macOS" in page
    assert "Firefox on Linux" in page
    assert page.count("this browser") == 1
    newest, _ = await sessions(here)
    got = await here.post("/sessions/end", data={"session": newest, "csrf": await desk.csrf(here)})
    assert (got.status_code, got.headers["location"]) == (303, "/sessions")
    assert (await is_in(there), await is_in(here)) == (False, True)
    rows = await desk.store.read(lambda session: list(audit.stream(session)))
    assert (rows[-1].kind, rows[-1].actor, rows[-1].detail["id"]) == (
        Kind.SESSION_CLOSED,
        "approver@example.com",
        newest,
    )


async def test_the_header_leads_there(desk: Desk) -> None:
    assert '<a class="me" href="/sessions"' in (await (await desk.browser("nobody")).get("/")).text


async def test_ending_all_others_leaves_this_browser_and_other_people(desk: Desk) -> None:
    mine, other = [await signed_in(desk, "approver") for _ in range(3)], await signed_in(desk, "second")
    await mine[0].post("/sessions/end", data={"others": "true", "csrf": await desk.csrf(mine[0])})
    assert [await is_in(each) for each in (*mine, other)] == [True, False, False, True]


async def test_ending_the_session_of_this_browser_is_signing_out(desk: Desk) -> None:
    client = await signed_in(desk, "approver")
    (this,) = await sessions(client)
    got = await client.post("/sessions/end", data={"session": this, "csrf": await desk.csrf(client)})
    assert 'broker_session=""' in got.headers["set-cookie"]
    assert not await is_in(client)


async def test_nobody_but_an_administrator_sees_or_ends_the_sessions_of_others(desk: Desk) -> None:
    admin, auditor, approver = [await signed_in(desk, name) for name in ("admin", "auditor", "approver")]
    (theirs,) = await sessions(approver)
    assert await sessions(auditor) != [theirs]
    got = await auditor.post("/sessions/end", data={"session": theirs, "csrf": await desk.csrf(auditor)})
    assert (got.status_code, "not yours to end" in got.text) == (404, True)
    assert await is_in(approver)
    assert len(await sessions(admin)) == 3
    await admin.post("/sessions/end", data={"session": theirs, "csrf": await desk.csrf(admin)})
    assert not await is_in(approver)


async def test_sessions_that_are_over_are_not_listed(desk: Desk, clock: MovableClock) -> None:
    await signed_in(desk, "approver")
    clock.advance(timedelta(hours=12))
    assert len(await sessions(await signed_in(desk, "approver"))) == 1


async def test_ending_takes_a_form_of_this_session_and_a_browser(desk: Desk) -> None:
    client, stranger = await signed_in(desk, "approver"), await signed_in(desk, "second")
    asked = {"session": (await sessions(client))[0]}
    for csrf in ("", await desk.csrf(stranger)):
        got = await client.post("/sessions/end", data={**asked, "csrf": csrf})
        assert (got.status_code, "did not come from this page" in got.text) == (403, True)
    got = await (await desk.program("approver")).post("/sessions/end", data=asked)
    assert (got.status_code, "in a browser" in got.text) == (403, True)
    assert await is_in(client)


async def test_an_id_of_something_else_ends_nothing(desk: Desk) -> None:
    admin = await signed_in(desk, "admin")
    token = await desk.secret("approver", CredentialKind.TOKEN)
    (known,) = await desk.store.read(lambda session: people.tokens(session, "approver@example.com"))
    csrf = await desk.csrf(admin)
    for each in (known.id, "session_unknown", "\0", ""):
        assert (await admin.post("/sessions/end", data={"session": each, "csrf": csrf})).status_code == 404
    assert (await desk.client(Authorization=f"Bearer {token}").get("/api/v1/approvals")).status_code == 200


async def test_a_role_that_is_taken_away_counts_no_more_in_a_session_that_is_open(desk: Desk) -> None:
    client = await signed_in(desk, "auditor")
    assert (await client.get("/audit")).status_code == 200
    await desk.store.write(lambda tx: people.save(tx, "cli:test", "auditor@example.com", frozenset(), frozenset()))
    assert (await client.get("/audit")).status_code == 403
    save = frozenset({Role.AUDITOR})
    await desk.store.write(lambda tx: people.save(tx, "cli:test", "auditor@example.com", save, frozenset()))
    await desk.store.write(lambda tx: people.remove(tx, "cli:test", "auditor@example.com"))
    assert (await client.get("/audit")).status_code == 303


async def test_what_a_browser_calls_itself_is_text(desk: Desk) -> None:
    client = await signed_in(desk, "approver", "<script>alert(1)</script>")
    assert "<script>alert" not in (await client.get("/sessions")).text


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (CHROME, "Chrome on macOS"),
        (CHROME + " Edg/140.0", "Edge on macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.9", "curl/8.9"),
        ("\u202eevil\x1b", "?evil?"),
        ("x" * 500, "x" * 80),
        ("", None),
        (None, None),
    ],
)
def test_a_browser_is_called_what_people_call_it(agent: str | None, name: str | None) -> None:
    assert browser_name(agent) == name
