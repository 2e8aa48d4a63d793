"""The sign-in provider, made from the settings."""

from __future__ import annotations

from broker.domain.clock import Clock
from broker.settings import OidcSettings, Settings
from broker.web.oidc.provider import Provider, Terms


def provider(settings: Settings, terms: OidcSettings, clock: Clock) -> Provider:
    """The provider of `[oidc]`; nothing is asked of it yet.

    Raises:
        SettingsError: the client's secret is missing.
    """
    secret = settings.client_secret()
    return Provider(Terms(terms.issuer, terms.client_id, secret, terms.groups_claim, terms.roles), clock)
