"""`broker connect`: an upstream of the broker on standard input and output, for clients that can only start a command.

`BROKER_URL` says where the broker is, `BROKER_GRANT` who asks. What does not belong here: the bridge (`broker.bridge`).
Standard output carries MCP and nothing else, so there is no `--json`; settings are the broker's, so there is no
`--config`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import signal
from contextlib import suppress
from datetime import timedelta
from typing import Annotated
from urllib.parse import SplitResult, quote, unquote, urlsplit

import typer

from broker.cli import output
from broker.cli.arguments import parsed
from broker.domain.durations import parse_duration
from broker.errors import SettingsError

DEFAULT_URL = "http://127.0.0.1:8750"
PATIENCE = timedelta(seconds=30)


def connect(
    upstream: Annotated[str, typer.Argument(metavar="UPSTREAM", help="Its name in the broker's settings.")],
    wait: Annotated[
        timedelta | None,
        typer.Option(
            metavar="DURATION",
            help="How long a request waits for a broker that is away: 30s unless told.",
            parser=parsed(parse_duration),
        ),
    ] = None,
) -> None:
    """Speak MCP on standard input and output with an upstream; an MCP client starts this."""
    url, token = _endpoint(upstream), _token()
    asyncio.run(_connect(url, token, wait or PATIENCE))


async def _connect(url: str, token: str, patience: timedelta) -> None:
    from broker.bridge.http import BrokerHttp  # noqa: PLC0415 - slow to import
    from broker.bridge.relay import Relay  # noqa: PLC0415
    from broker.bridge.stdio import StdioClient  # noqa: PLC0415

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    client, http = StdioClient(), BrokerHttp(url, token, patience.total_seconds(), _say)
    client.start()
    await Relay(client, http, _say).run(stopping)
    await http.close()
    os._exit(0)  # a name that is being looked up in a thread would keep the process


def _say(sentence: str) -> None:
    with suppress(OSError):  # nobody reads it any more, which is no reason to fail
        output.warn(f"broker connect: {sentence}")


def _endpoint(upstream: str) -> str:
    """The address of an upstream's endpoint. BROKER_URL may be that already, as `broker grant create` prints it.

    Raises:
        SettingsError: BROKER_URL is none of a broker, or leads to another upstream.
    """
    given = os.environ.get("BROKER_URL") or DEFAULT_URL
    try:
        parts = urlsplit(given)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise SettingsError(
            f"BROKER_URL is not the address of a broker, such as {DEFAULT_URL} or https://broker.x.org."
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        _say(f"WARNING: the grant goes to {parts.hostname} unencrypted, where others can read it: use https.")
    return f"{_broker(parts, upstream)}/mcp/{quote(upstream, safe='')}"


def _broker(parts: SplitResult, upstream: str) -> str:
    path = parts.path.rstrip("/")
    before, _, named = path.rpartition("/")
    broker = parts._replace(path=(before if before.endswith("/mcp") else path).removesuffix("/mcp")).geturl()
    if before.endswith("/mcp") and unquote(named) != upstream:
        raise SettingsError(
            f"BROKER_URL leads to the upstream {unquote(named)!r}, and the command names {upstream!r}: "
            f"set BROKER_URL to {broker}."
        )
    return broker


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _token() -> str:
    token = os.environ.get("BROKER_GRANT", "").strip()
    if not token:
        raise SettingsError("BROKER_GRANT is not set: `broker grant create` makes a grant and prints its token.")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise SettingsError("BROKER_GRANT is not a token as `broker grant create` prints it.")
    return token
