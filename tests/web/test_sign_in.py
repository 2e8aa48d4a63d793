"""Signing in by a link that works once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.store.people import CredentialKind
from tests.clock import MovableClock
from tests.web.desk import Desk, close_desk, open_desk


async def test_looking_at_a_link_does_not_use_it_up_and_its_button_does(desk: Desk) -> None:
    link = await desk.secret("approver", CredentialKind.LINK)
    client = desk.client()
    for _ in range(3):
        page = await client.get(f"/sign-in?token={link}")
        assert (page.status_code, page.headers["referrer-policy"]) == (200, "no-referrer")
        assert "set-cookie" not in page.headers
    got = await client.post("/sign-in", data={"token": link, "next": "/audit?q=x"})
    assert (got.status_code, got.headers["location"]) == (303, "/audit?q=x")
    cookie = got.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"))
    assert (await client.get("/")).status_code == 200
    again = await desk.client().post("/sign-in", data={"token": link})
    assert again.status_code == 404
    assert "set-cookie" not in again.headers


async def test_a_link_is_too_old_after_fifteen_minutes_and_a_session_after_twelve_hours(
    desk: Desk, clock: MovableClock
) -> None:
    late = await desk.secret("approver", CredentialKind.LINK)
    link = await desk.secret("approver", CredentialKind.LINK)
    client = desk.client()
    await client.post("/sign-in", data={"token": link})
    clock.advance(timedelta(minutes=15))
    assert (await client.get(f"/sign-in?token={late}")).status_code == 404
    assert (await desk.client().post("/sign-in", data={"token": late})).status_code == 404
    clock.advance(timedelta(hours=11, minutes=44))
    assert (await client.get("/")).status_code == 200
    clock.advance(timedelta(minutes=1))
    assert (await client.get("/")).status_code == 303


async def test_the_page_of_a_link_says_whom_it_signs_in(desk: Desk) -> None:
    """Who is sent somebody else's link sees that it is: they would decide in that person's name."""
    link = await desk.secret("second", CredentialKind.LINK)
    assert "<strong>second@example.com</strong>" in (await desk.client().get(f"/sign-in?token={link}")).text


async def test_a_session_that_was_planted_before_is_not_the_one_that_is_opened(desk: Desk) -> None:
    client = desk.client()
    client.cookies.set("broker_session", planted := await desk.secret("nobody", CredentialKind.SESSION))
    got = await client.post("/sign-in", data={"token": await desk.secret("approver", CredentialKind.LINK)})
    assert got.headers["set-cookie"].startswith("broker_session=")
    assert planted not in got.headers["set-cookie"]
    assert "nobody@example.com" in (await desk.client(Cookie=f"broker_session={planted}").get("/")).text


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_no_page_of_another_site_signs_a_browser_in(desk: Desk, headers: dict[str, str]) -> None:
    link = await desk.secret("approver", CredentialKind.LINK)
    got = await desk.client(**headers).post("/sign-in", data={"token": link})
    assert (got.status_code, "set-cookie" in got.headers) == (403, False)
    assert (await desk.client().post("/sign-in", data={"token": link})).status_code == 303


async def test_over_tls_no_other_host_and_no_plain_page_can_set_the_cookie(store_url: str, clock: MovableClock) -> None:
    desk = await open_desk(store_url, clock, "https://broker.example.com")
    client = desk.client()
    got = await client.post("/sign-in", data={"token": await desk.secret("approver", CredentialKind.LINK)})
    cookie = got.headers["set-cookie"]
    assert cookie.startswith("__Host-broker_session=")
    assert all(part in cookie for part in ("Secure", "Path=/", "HttpOnly", "SameSite=lax"))
    assert "Domain" not in cookie
    secret = cookie.split("=", 1)[1].split(";")[0]
    assert (await desk.client(Cookie=f"broker_session={secret}").get("/")).status_code == 303
    assert (await desk.client(Cookie=f"__Host-broker_session={secret}").get("/")).status_code == 200
    await close_desk(desk)


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "/\\evil.example", "/\n/x", "x", ""])
async def test_signing_in_leads_nowhere_else(desk: Desk, address: str) -> None:
    link = await desk.secret("approver", CredentialKind.LINK)
    got = await desk.client().post("/sign-in", data={"token": link, "next": address})
    assert got.headers["location"] == "/"


async def test_a_program_whose_token_is_not_known_is_told_so(desk: Desk) -> None:
    got = await desk.client(Authorization="Bearer bt_wrong").get("/api/v1/approvals")
    assert (got.status_code, got.json()["code"]) == (401, "not_signed_in")
    assert got.json()["detail"].startswith("This API token is unknown or revoked: ")


async def test_who_is_not_signed_in_is_led_to_the_sign_in_and_back(desk: Desk) -> None:
    got = await desk.client().get("/audit?q=a%26b")
    assert got.headers["location"] == "/sign-in?next=%2Faudit%3Fq%3Da%2526b"


async def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(desk: Desk) -> None:
    client = await desk.browser("approver")
    copy = desk.client()
    copy.cookies.set("broker_session", client.cookies["broker_session"])
    got = await client.post("/sign-out", data={"csrf": await desk.csrf(client)})
    assert got.status_code == 303
    assert (await copy.get("/")).status_code == 303


async def test_every_answer_carries_the_headers_that_keep_a_page_from_doing_harm(desk: Desk) -> None:
    client = await desk.browser("admin")
    for path in ("/", "/audit", "/sign-in", "/nowhere", "/static/style.css", "/api/v1/approvals", "/healthz"):
        headers = (await client.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")


async def test_a_body_that_is_too_large_is_not_read(desk: Desk) -> None:
    assert (await desk.client().post("/sign-in", content=b"x" * 65537)).status_code == 413
    assert (await desk.client().post("/sign-in", headers={"Transfer-Encoding": "chunked"})).status_code == 411


async def test_readiness_is_what_the_broker_says_of_itself(desk: Desk) -> None:
    assert (await desk.client().get("/readyz")).status_code == 200
    desk.readiness.update(status="unavailable", store="gone")
    got = await desk.client().get("/readyz")
    assert (got.status_code, got.json()["store"]) == (503, "gone")
