"""What reviewers do not see of a held call, kept so that the call can still run: encrypted, and bound to its approval.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits, under a key of the server's secret; the approval's id is
its associated data, so that the arguments of one approval cannot be put under another.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.domain.approvals import Approval
from broker.domain.calls import Call
from broker.domain.canonical import Keyring

_PURPOSE = "sealed"
_NONCE = 12


def sealed(keyring: Keyring, approval_id: str, params: Mapping[str, Any]) -> str:
    """`params` under the newest key, as ASCII text."""
    nonce = os.urandom(_NONCE)
    text = json.dumps(params, separators=(",", ":")).encode()
    key = keyring.keys(_PURPOSE)[0]
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, text, approval_id.encode())).decode()


def unsealed(keyring: Keyring, approval: Approval) -> Call | None:
    """The call of `approval` as its agent asked for it.

    Returns:
        The call as it is when nothing of it is sealed; None when no present key opens what is.
    """
    if approval.sealed is None:
        return approval.call
    for key in keyring.keys(_PURPOSE):
        try:
            whole = base64.b64decode(approval.sealed, validate=True)
            text = AESGCM(key).decrypt(whole[:_NONCE], whole[_NONCE:], approval.id.encode())
        except (InvalidTag, ValueError):  # ValueError: it is not even the text that was written
            continue
        return replace(approval.call, params=json.loads(text))
    return None
