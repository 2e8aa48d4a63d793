"""The composition root: makes every part from the settings, runs them, and stops them in order.

parts, slack, oidc (made from their settings) · serving (the listener, and how it stops) · readiness (what `/readyz`
says) ← composition (which part gets which, and the order of start and stop). What does not belong here: anything that
a part does.
"""

from __future__ import annotations

from broker.app.composition import Broker, running

__all__ = ["Broker", "running"]
