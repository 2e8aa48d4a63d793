"""Which Host and Origin a request may name, so that a page of somebody else cannot talk to the broker.

A browser can be made to send a request here under another name (DNS rebinding) or from another page; both name
themselves in these two fields (MCP 2026-07-28, Transports, Security Warning).
"""

from __future__ import annotations

from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether `host`, a name without brackets, is this machine's own."""
    return host in ("127.0.0.1", "localhost", "::1")


class Origins:
    """The names under which this broker may be spoken to: that of its public URL, or any loopback name if that is one.

    Args:
        public_url: such as ``https://broker.example.com``.
    """

    def __init__(self, public_url: str) -> None:
        parts = urlsplit(public_url)
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        names = _LOOPBACK if name in _LOOPBACK else (name,)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        forms = [f"{known}:{port}" for known in names]
        if port == _PORTS.get(parts.scheme):
            forms.extend(names)
        self._hosts = frozenset(forms)
        self._origins = frozenset(f"{parts.scheme}://{form}" for form in forms)

    def allows_host(self, host: str | None) -> bool:
        """Whether a request may name `host` in its Host field; a request without one may not."""
        return host is not None and host.lower() in self._hosts

    def allows_origin(self, origin: str | None) -> bool:
        """Whether a request may come from `origin`; one that no page made has none."""
        return origin is None or origin.lower() in self._origins
