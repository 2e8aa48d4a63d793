"""The only reader of settings: `broker.toml`, and `BROKER_<SECTION>__<KEY>` from the environment, which wins.

shape (what can be set) ← source (where values stand, and what is wrong there); `load_settings` reads them together.
What does not belong here: doing anything with a setting.
"""

from __future__ import annotations

from broker.settings.reading import load_settings
from broker.settings.shape import (
    UPSTREAM_NAME,
    ApprovalSettings,
    ClientSettings,
    OidcSettings,
    ServerSettings,
    SlackSettings,
    StoreSettings,
    UpstreamSettings,
)
from broker.settings.values import Settings

__all__ = [
    "UPSTREAM_NAME",
    "ApprovalSettings",
    "ClientSettings",
    "OidcSettings",
    "ServerSettings",
    "Settings",
    "SlackSettings",
    "StoreSettings",
    "UpstreamSettings",
    "load_settings",
]
