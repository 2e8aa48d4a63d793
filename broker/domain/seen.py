"""What a reviewer is shown of a call, and the digest of it that is kept with their word.

What belongs here: what of an approval is shown of the call itself, and stays as it is whatever becomes of it. What does
not: how it looks (`broker.web`, `integrations`).
"""

from __future__ import annotations

import hashlib
from typing import Any

from broker.domain.approvals import Approval
from broker.domain.canonical import canonical_json


def seen(approval: Approval) -> dict[str, Any]:
    """What is shown of the call of `approval`, masked where the policy says so: the members that the HTTP API has of
    the approval under these names, and of its grant the label and the owner."""
    call = approval.call
    return {
        "upstream": call.upstream,
        "tool": call.tool,
        "arguments": call.params.get("arguments", {}),
        "other_params": call.beside,
        "grant": {"label": call.grant.label, "owner": call.grant.owner},
        "risk": approval.risk.value if approval.risk is not None else None,
        "reason": approval.reason,
        "rule": approval.rule,
        "revision": approval.revision,
    }


def seen_digest(approval: Approval) -> str:
    """SHA-256, hex, over the canonical JSON of what is shown of the call: it needs no key, so an auditor who has the
    approval of the HTTP API finds the same.

    Raises:
        ValueError: the call has no canonical form; no such call is ever held.
    """
    return hashlib.sha256(canonical_json(seen(approval))).hexdigest()
