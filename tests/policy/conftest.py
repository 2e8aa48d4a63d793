"""How the tests of the policy package run."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("policy", deadline=None)  # the properties are about verdicts, not about a busy machine
settings.load_profile("policy")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
