"""Asking the provider: JSON over HTTP, bounded in time and size.

No redirects and no proxy from the environment: the secret goes to where the provider's own metadata says, or nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp

from broker.domain.origins import is_loopback
from broker.domain.text import visible
from broker.errors import ProviderFailed

WITHIN = 5.0
"""Seconds that the provider has for one answer."""

LARGEST = 256 * 1024
"""The most bytes of one answer."""

MOST_AT_ONCE = 8
"""Connections to the provider; who comes then waits for one."""


class Fetching:
    """What the provider is asked, for as long as the context lasts."""

    def __init__(self, within: float = WITHIN) -> None:
        self._timeout = aiohttp.ClientTimeout(total=within)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetching:
        connector = aiohttp.TCPConnector(limit=MOST_AT_ONCE, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str) -> Mapping[str, Any]:
        """The object at an address.

        Raises:
            ProviderFailed: there is none.
        """
        return await self._ask("GET", url)

    async def post(self, url: str, body: str, headers: Mapping[str, str]) -> Mapping[str, Any]:
        """What a form is answered.

        Raises:
            ProviderFailed: it is refused, with the provider's own word for it (RFC 6749, section 5.2).
        """
        return await self._ask("POST", url, body, headers)

    async def _ask(
        self, method: str, url: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        assert self._session is not None  # noqa: S101 - within the context
        where = urlsplit(checked(url)).netloc
        try:
            async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
                whole = await _bounded(answer)
        except TimeoutError as error:
            raise ProviderFailed(f"{where} does not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ProviderFailed(f"{where} cannot be reached ({type(error).__name__})") from error
        return _told(where, answer.status, whole)


def checked(url: Any) -> str:
    """`url`, if it may be asked: over TLS, or on this machine.

    Raises:
        ProviderFailed: it may not.
    """
    try:
        parts = urlsplit(str(url))
        safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        if safe and parts.hostname and "@" not in parts.netloc:
            return str(url)
    except ValueError:
        pass
    raise ProviderFailed("the provider's metadata has an address that is not https")


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    whole = b""
    async for chunk in answer.content.iter_any():
        whole += chunk
        if len(whole) > LARGEST:
            raise ProviderFailed(f"an answer has more than {LARGEST} bytes")
    return whole


def _told(where: str, status: int, whole: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(whole)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderFailed(f"{where} answered {status} and no object of JSON")
    told = cast("dict[str, Any]", found)
    if status != 200:
        raise ProviderFailed(f"{where} answered {status} ({visible(str(told.get('error')))[:100]})")
    return told
