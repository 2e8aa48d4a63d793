"""Signing in with a provider of another site in a real browser: its rules for cookies, forms and redirects hold."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from broker.app import running
from broker.domain.clock import SystemClock
from broker.settings import Settings
from tests.servers.oidc import CLIENT_ID, CLIENT_SECRET, running_provider


async def test_a_person_goes_to_the_provider_and_comes_back_signed_in(
    page: Page, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    async with running_provider(SystemClock(), "") as oidc:
        oidc.url = oidc.url.replace("127.0.0.1", "localhost")  # for a browser another site than the broker's
        oidc.account["groups"] = ["owners"]
        terms = {"issuer": oidc.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        given = {"server": {"port": 0}, "oidc": {**terms, "roles": {"owners": "admin"}}}
        async with running(Settings.model_validate(given)) as broker:
            assert oidc.asked == []
            oidc.redirect_uri = f"{broker.url}/sign-in/callback"
            await page.goto(f"{broker.url}/sessions")
            await page.get_by_role("link", name="Sign in with localhost").click()
            await page.wait_for_url(f"{broker.url}/sessions")
            await expect(page.get_by_text("this browser")).to_be_visible()
            (cookie,) = await page.context.cookies()
            assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Lax")
            await page.get_by_role("button", name="End the session").click()
            await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
            assert await page.context.cookies() == []
