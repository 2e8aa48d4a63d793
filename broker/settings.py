"""The only reader of settings: `broker.toml`, and `BROKER_<SECTION>__<KEY>` from the environment."""

from __future__ import annotations
