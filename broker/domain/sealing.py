"""What people do not see of a held call, kept so that it can run or be answered: encrypted, bound to its approval.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits, under a key of the server's secret; what it is of is its
associated data, so that the arguments of one approval cannot be put under another.
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


def sealed(keyring: Keyring, name: str, value: Mapping[str, Any]) -> str:
    """`value`, JSON, under the newest key, as ASCII text.

    Args:
        name: what it is of: an approval's id for its params, with more behind it for what else is kept of it.
    """
    nonce = os.urandom(_NONCE)
    text = json.dumps(value, separators=(",", ":")).encode()
    key = keyring.keys(_PURPOSE)[0]
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, text, name.encode())).decode()


def opened(keyring: Keyring, name: str, text: str) -> dict[str, Any] | None:
    """What was sealed under `name`; None when no present key opens it."""
    for key in keyring.keys(_PURPOSE):
        try:
            whole = base64.b64decode(text, validate=True)
            return json.loads(AESGCM(key).decrypt(whole[:_NONCE], whole[_NONCE:], name.encode()))
        except (InvalidTag, ValueError):  # ValueError: it is not even the text that was written
            continue
    return None


def unsealed(keyring: Keyring, approval: Approval) -> Call | None:
    """The call of `approval` as its agent asked for it.

    Returns:
        The call as it is when nothing of it is sealed; None when no present key opens what is.
    """
    if approval.sealed is None:
        return approval.call
    params = opened(keyring, approval.id, approval.sealed)
    return replace(approval.call, params=params) if params is not None else None
