"""One sign-in on its way: what its answer has to fit.

What does not belong here: where that is kept meanwhile (`broker.web.sign_on`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flow:
    """One sign-in that has begun. Its values are random: `state` binds the answer to the browser, `nonce` the token to
    the request (Core, section 3.1.2.1), `verifier` the code to who asked for it (RFC 7636)."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Flow:
        """One that nobody can guess."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))
