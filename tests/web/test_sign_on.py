"""Signing in with an OpenID provider: the way there and back, and everything that is not believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx2
import pytest
from aiohttp import web

from broker.domain.audit import Kind
from broker.domain.people import Person, Role
from broker.store import audit, identities, people
from broker.web.oidc.provider import Provider, Terms
from tests.clock import MovableClock
from tests.servers import BOUND
from tests.servers.oidc import CLIENT_ID, CLIENT_SECRET, Oidc, running_provider
from tests.web.desk import URL, Desk, close_desk, open_desk

CALLBACK = f"{URL}/sign-in/callback"
ROLES = {"approvers": Role.APPROVER, "auditors": Role.AUDITOR}


@pytest.fixture
async def oidc(clock: MovableClock) -> AsyncIterator[Oidc]:
    async with running_provider(clock, CALLBACK) as provider:
        yield provider


@pytest.fixture
async def desk(sqlite_url: str, clock: MovableClock, oidc: Oidc) -> AsyncIterator[Desk]:
    """A desk whose people sign in with `oidc`, too."""
    terms = Terms(oidc.url, CLIENT_ID, CLIENT_SECRET, "groups", ROLES)
    async with Provider(terms, clock, within=BOUND) as provider:
        desk = await open_desk(sqlite_url, clock, provider=provider)
        yield desk
        await close_desk(desk)


async def left(client: httpx2.AsyncClient, after: str = "/") -> str:
    """Begin to sign in; where the browser is sent."""
    got = await client.get("/sign-in/provider", params={"next": after})
    assert got.status_code == 303, got.text
    return got.headers["location"]


async def answered(location: str) -> str:
    """What the provider has the browser do next: the path and query of the way back."""
    async with aiohttp.ClientSession() as http, http.get(location, allow_redirects=False) as answer:
        assert answer.status == 302, await answer.text()
        back = urlsplit(answer.headers["Location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == CALLBACK
    return f"{back.path}?{back.query}"


async def signed_on(client: httpx2.AsyncClient, after: str = "/") -> httpx2.Response:
    """The whole way; the broker's last answer."""
    return await client.get(await answered(await left(client, after)))


async def person(desk: Desk, email: str) -> Person | None:
    return await desk.store.read(lambda session: people.get(session, email))


async def rows(desk: Desk) -> list[tuple[Kind, str, dict[str, Any]]]:
    found = await desk.store.read(lambda session: list(audit.stream(session)))
    return [(row.kind, row.actor, dict(row.detail)) for row in found]


def is_refused(got: httpx2.Response, status: int, *words: str) -> None:
    assert (got.status_code, "broker_session" in got.headers.get("set-cookie", "")) == (status, False), got.text
    for each in (*words, "You are not signed in.", "broker sign-in you@example.com"):
        assert each in got.text


# -- the way ----------------------------------------------------------------------------------------------------------


async def test_who_signs_in_with_the_provider_gets_a_session_and_where_they_wanted(desk: Desk, oidc: Oidc) -> None:
    client = desk.client(**{"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"})
    page = await client.get("/sign-in?next=/audit%3Fq=x")
    assert f"Sign in with {urlsplit(oidc.url).netloc}" in page.text
    assert 'href="/sign-in/provider?next=/audit%3Fq%3Dx"' in page.text
    got = await signed_on(client, "/audit?q=x")
    assert (got.status_code, got.headers["location"]) == (303, "/audit?q=x")
    assert got.headers["referrer-policy"] == "no-referrer"
    session = next(each for each in got.headers.get_list("set-cookie") if each.startswith("broker_session="))
    assert all(part in session for part in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"))
    assert "approver@example.com" in (await client.get("/")).text
    kind, actor, detail = (await rows(desk))[-1]
    assert (kind, actor, detail["via"]) == (Kind.SESSION_OPENED, "approver@example.com", oidc.url)
    assert detail["label"] == "Firefox on Linux"
    assert oidc.refused == []


async def test_a_provider_that_wants_the_secret_in_the_form_gets_it_there(desk: Desk, oidc: Oidc) -> None:
    oidc.auth_method = "client_secret_post"
    assert (await signed_on(desk.client())).status_code == 303


async def test_nothing_is_asked_of_the_provider_before_somebody_signs_in(desk: Desk, oidc: Oidc) -> None:
    await desk.client().get("/sign-in")
    assert oidc.asked == []


async def test_a_provider_that_is_down_is_said_to_be_and_links_work_meanwhile(desk: Desk, oidc: Oidc) -> None:
    await oidc.go_down()
    is_refused(await desk.client().get("/sign-in/provider"), 503, "does not work now", "cannot be reached")
    assert (await (await desk.browser("approver")).get("/")).status_code == 200
    await oidc.come_up()
    assert (await signed_on(desk.client())).status_code == 303


async def test_a_broker_without_a_provider_says_so(sqlite_url: str, clock: MovableClock) -> None:
    other = await open_desk(sqlite_url, clock)
    assert "Sign in with" not in (await other.client().get("/sign-in")).text
    for path in ("/sign-in/provider", "/sign-in/callback?state=x&code=y"):
        assert (await other.client().get(path)).status_code in (403, 404)
    await close_desk(other)


async def test_a_key_that_is_new_counts_at_once_and_the_old_one_no_more(desk: Desk, oidc: Oidc) -> None:
    assert (await signed_on(desk.client())).status_code == 303
    old = oidc.keys[0]
    oidc.rotate()
    assert (await signed_on(desk.client())).status_code == 303
    oidc.sign = lambda claims: oidc.signed(claims, old)
    is_refused(await signed_on(desk.client()), 503, "not to be believed")


# -- who it is --------------------------------------------------------------------------------------------------------


async def test_groups_and_roles_are_the_providers_until_the_next_sign_in_without_them(desk: Desk, oidc: Oidc) -> None:
    oidc.account |= {"sub": "u-2", "email": "Nobody@example.com", "groups": ["approvers", "desk"]}
    client = desk.client()
    await signed_on(client)
    assert await person(desk, "nobody@example.com") == Person(
        "nobody@example.com", frozenset({Role.APPROVER}), frozenset({"approvers", "desk"})
    )
    page = await client.get("/audit")
    assert page.status_code == 403
    oidc.account["groups"] = ["auditors"]
    await signed_on(desk.client())
    assert (await client.get("/audit")).status_code == 200
    del oidc.account["groups"]
    await signed_on(desk.client())
    assert (await client.get("/audit")).status_code == 403
    assert await person(desk, "nobody@example.com") == Person("nobody@example.com")


async def test_the_administrators_own_roles_stay_beside_the_providers(desk: Desk, oidc: Oidc) -> None:
    oidc.account["groups"] = "auditors"
    await signed_on(desk.client())
    found = await person(desk, "approver@example.com")
    assert found is not None
    assert found.roles == {Role.APPROVER, Role.AUDITOR}


async def test_who_was_never_here_comes_in_by_a_role_and_not_without(desk: Desk, oidc: Oidc) -> None:
    oidc.account |= {"sub": "u-3", "email": "New@example.com", "groups": ["staff"]}
    is_refused(await signed_on(desk.client()), 403, "broker user add new@example.com --role approver")
    assert await person(desk, "new@example.com") is None
    oidc.account["groups"] = ["staff", "approvers"]
    assert (await signed_on(desk.client())).status_code == 303
    found = await person(desk, "new@example.com")
    assert found is not None
    assert found.roles == {Role.APPROVER}
    assert [kind for kind, _, _ in await rows(desk)][-4:] == [
        Kind.PERSON_SAVED,
        Kind.PERSON_LINKED,
        Kind.PERSON_VOUCHED,
        Kind.SESSION_OPENED,
    ]


async def test_who_was_removed_does_not_come_back_by_the_providers_word(desk: Desk, oidc: Oidc) -> None:
    oidc.account["groups"] = ["approvers"]
    client = desk.client()
    await signed_on(client)
    await desk.store.write(lambda tx: people.remove(tx, "cli:test", "approver@example.com"))
    assert (await client.get("/")).status_code == 303
    is_refused(await signed_on(desk.client()), 403, "broker user add approver@example.com")


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": None},
        {"email_verified": None, "xms_edov": "0"},
        {"email_verified": False},
        {"email_verified": "false"},
        {"email_verified": False, "xms_edov": True},
        {"email": None},
        {"email": 7},
    ],
)
async def test_an_address_that_is_not_confirmed_is_nobodys(desk: Desk, oidc: Oidc, claims: dict[str, Any]) -> None:
    oidc.claims |= {**claims, "groups": ["approvers"]}
    is_refused(await signed_on(desk.client()), 403, "no confirmed e-mail address")
    assert await desk.store.read(identities.everyone) == []


async def test_an_address_that_entra_confirms_in_its_own_way_counts(desk: Desk, oidc: Oidc) -> None:
    oidc.account |= {"email_verified": None, "xms_edov": True}
    assert (await signed_on(desk.client())).status_code == 303


async def test_the_subject_counts_and_not_the_address_it_has_by_now(desk: Desk, oidc: Oidc) -> None:
    await signed_on(desk.client())
    oidc.account["email"] = "admin@example.com"
    client = desk.client()
    await signed_on(client)
    assert "approver@example.com" in (await client.get("/")).text
    oidc.account |= {"sub": "thief", "email": "approver@example.com"}
    is_refused(await signed_on(desk.client()), 403, "linked to another account already")


@pytest.mark.parametrize("how", ["unsigned", "signed_by_stranger"])
async def test_what_is_not_believed_signs_nobody_in(desk: Desk, oidc: Oidc, how: str) -> None:
    oidc.sign = getattr(oidc, how)
    is_refused(await signed_on(desk.client()), 503, "not to be believed")


async def test_what_a_provider_answers_is_text(desk: Desk, oidc: Oidc) -> None:
    async def broken(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "<b>\u202etrouble"}, status=500)

    oidc.instead["/token"] = broken
    got = await signed_on(desk.client())
    is_refused(got, 503, "answered 500", "&lt;b&gt;")
    assert "\u202e" not in got.text


# -- whose browser it is ----------------------------------------------------------------------------------------------


async def test_an_answer_to_another_browser_signs_nobody_in(desk: Desk, oidc: Oidc) -> None:
    attacker, victim = desk.client(), desk.client()
    stolen = await answered(await left(attacker))
    asked = list(oidc.asked)
    is_refused(await victim.get(stolen), 403, "not begun in this browser")
    await left(victim)
    is_refused(await victim.get(stolen), 403, "not begun in this browser")
    assert oidc.asked == asked  # no code was sent to anybody


async def test_an_answer_counts_once(desk: Desk, oidc: Oidc) -> None:
    client = desk.client()
    back = await answered(await left(client))
    assert (await client.get(back)).status_code == 303
    is_refused(await client.get(back), 403, "begin again")


async def test_a_code_that_was_used_is_refused_even_with_the_cookie_of_its_browser(desk: Desk, oidc: Oidc) -> None:
    client, copy = desk.client(), desk.client()
    back = await answered(await left(client))
    copy.cookies.set("broker_sign_in", client.cookies["broker_sign_in"])
    await client.get(back)
    is_refused(await copy.get(back), 503, "invalid_grant")


async def test_a_code_of_another_sign_in_does_not_fit(desk: Desk, oidc: Oidc) -> None:
    attacker, victim = desk.client(), desk.client()
    code = parse_qs(urlsplit(await answered(await left(attacker))).query)["code"][0]
    state = parse_qs(urlsplit(await left(victim)).query)["state"][0]
    got = await victim.get("/sign-in/callback", params={"code": code, "state": state, "iss": oidc.url})
    is_refused(got, 503, "invalid_grant")  # its challenge is for another verifier


async def test_an_answer_that_comes_too_late_signs_nobody_in(desk: Desk, oidc: Oidc, clock: MovableClock) -> None:
    client = desk.client()
    back = await answered(await left(client))
    clock.advance(timedelta(minutes=10))
    is_refused(await client.get(back), 403, "too long ago")


@pytest.mark.parametrize("cookie", ["", "x", "AAAA" * 40, '"'])
async def test_a_cookie_that_the_broker_did_not_make_signs_nobody_in(desk: Desk, cookie: str) -> None:
    client = desk.client(Cookie=f"broker_sign_in={cookie}")
    is_refused(await client.get("/sign-in/callback?state=&code=x"), 403, "begin again")


@pytest.mark.parametrize("iss", ["https://evil.example", None])
async def test_an_answer_of_another_provider_is_seen_to_be(desk: Desk, oidc: Oidc, iss: str | None) -> None:
    oidc.answer["iss"] = iss
    client = desk.client()
    back = await answered(await left(client))
    is_refused(await client.get(back), 503, "another provider")
    assert "/token" not in oidc.asked


async def test_who_the_provider_refuses_is_told_its_word(desk: Desk, oidc: Oidc) -> None:
    oidc.answer |= {"code": None, "error": "access_denied<b>"}
    is_refused(await signed_on(desk.client()), 403, "did not sign you in (access_denied&lt;b&gt;)")


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_the_provider_leads_back_to_this_broker_only(desk: Desk, oidc: Oidc, address: str) -> None:
    assert (await signed_on(desk.client(), address)).headers["location"] == "/"


async def test_no_page_of_another_site_signs_anybody_in(desk: Desk, oidc: Oidc) -> None:
    for site in ("cross-site", "same-site"):
        got = await desk.client(**{"Sec-Fetch-Site": site}).get("/sign-in/provider")
        assert (got.status_code, "set-cookie" in got.headers) == (200, False)
    assert oidc.asked == []


async def test_signing_in_gives_a_session_that_nobody_had_before(desk: Desk, oidc: Oidc) -> None:
    client = desk.client()
    client.cookies.set("broker_session", "planted")
    got = await signed_on(client)
    session = next(each for each in got.headers.get_list("set-cookie") if each.startswith("broker_session="))
    assert "planted" not in session
    first = session.split(";")[0]
    again = await signed_on(client)
    assert first not in again.headers["set-cookie"]


async def test_wrong_answers_from_one_address_end_there_and_nowhere_else(
    desk: Desk, oidc: Oidc, clock: MovableClock
) -> None:
    oidc.sign = oidc.unsigned
    attacker = desk.client("192.0.2.1")
    found = [(await signed_on(attacker)).status_code for _ in range(20)]
    assert set(found) == {503}
    asked = len(oidc.asked)
    late = await signed_on(attacker)
    assert (late.status_code, late.headers["retry-after"]) == (429, "60")
    assert "wait 60 seconds" in late.text
    assert len(oidc.asked) == asked + 1  # the way out, and nothing on the way back
    oidc.sign = oidc.signed
    assert (await signed_on(desk.client("192.0.2.2"))).status_code == 303
    clock.advance(timedelta(minutes=1))
    assert (await signed_on(attacker)).status_code == 303
