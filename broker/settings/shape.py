"""What can be set: the sections of `broker.toml`, their keys, and what each may be.

What belongs here: names, types, defaults. Only keys that have an effect in this version: an unknown one is refused, so
that a misspelt or a future one is not silently taken for its default.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from broker.domain.durations import parse_duration
from broker.domain.origins import is_loopback
from broker.domain.people import Role

UPSTREAM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110, section 5.6.2


def _expected(what: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def _only(accepts: Callable[[str], object], what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not accepts(text):
            raise _expected(what)
        return text

    return AfterValidator(check)


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return parse_duration(value)
    except (ValueError, AttributeError, TypeError) as error:
        raise _expected("a duration such as 90s, 15m, 1h or 30d") from error


def _http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:  # a port that is no number
        return False


def _origin(text: str) -> bool:
    return _http_url(text) and not re.search(r"[?#]|[^/:]/.", text)


def _issuer(text: str) -> bool:
    """OpenID Connect Core 1.0, section 2: https, no query, no fragment; on this machine also http."""
    parts = urlsplit(text)
    safe = parts.scheme == "https" or is_loopback(parts.hostname or "")
    return _http_url(text) and safe and not re.search(r"[?#\s]", text)


def _places(given: str | list[str]) -> str | list[str]:
    places = [given] if isinstance(given, str) else given
    if not places or not all(re.fullmatch(r"(file|env):.+", place) for place in places):
        raise _expected("file:PATH, env:NAME, or a list of these with the newest first")
    return given


Duration = Annotated[timedelta, BeforeValidator(_duration)]
HttpUrl = Annotated[str, _only(_http_url, "an http or https URL, without credentials in it")]
Issuer = Annotated[str, _only(_issuer, "the https URL of an issuer, to the letter as it calls itself")]
Origin = Annotated[
    str, _only(_origin, "an http or https URL without a path"), AfterValidator(lambda text: text.rstrip("/"))
]
StoreUrl = Annotated[
    str, _only(re.compile(r"sqlite:///(?!:memory:).+|postgresql://.+").fullmatch, "sqlite:///PATH or postgresql://…")
]
UpstreamName = Annotated[
    str, _only(UPSTREAM_NAME.fullmatch, "a name of 1 to 64 lower-case letters, digits, - and _, such as git")
]
Word = Annotated[str, Field(min_length=1)]
ClientName = Annotated[Word, AfterValidator(str.lower)]
HeaderName = Annotated[str, _only(HEADER_NAME.fullmatch, "the name of an HTTP header, such as X-Api-Key")]
SlackChannelName = Annotated[
    str,
    _only(
        re.compile(r"#[^\s#@]+|[CG][A-Z0-9]{6,}").fullmatch, "a channel such as #approvals, or its id such as C0123ABCD"
    ),
]
SlackGroup = Annotated[str, _only(re.compile(r"S[A-Z0-9]{6,}").fullmatch, "the id of a user group, such as S0123ABCD")]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    """Where the broker listens; port 0 takes a free one. `secret` keys cookies and fingerprints; a list rotates.

    `stop_within` is how long the broker takes to stop at most, calls that still run included; `workers` how many
    processes serve.
    """

    host: Word = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8750
    public_url: Origin | None = None
    secret: Annotated[str | list[str], AfterValidator(_places)] = "file:broker.secret"  # noqa: S105 - a place
    stop_within: Duration = timedelta(seconds=10)
    workers: Annotated[int, Field(ge=1)] = 1


class StoreSettings(Section):
    """Where the record lies. The URL may hold a password, so it is in no repr."""

    url: Annotated[StoreUrl, Field(repr=False)] = "sqlite:///broker.db"


class UpstreamSettings(Section):
    """One MCP server: a command over stdio, or a Streamable HTTP URL. Without a policy every call is held.

    `answer_within` is how long it may be silent while it owes an answer, `idle` how long its unused processes are kept.
    """

    command: Annotated[list[Word], Field(min_length=1)] | None = None
    env: dict[str, str] = Field(default_factory=dict[str, str], repr=False)
    url: HttpUrl | None = None
    headers: dict[HeaderName, SecretStr] = Field(default_factory=dict[str, SecretStr])
    policy: Path | None = None
    patience: Duration | None = None
    answer_within: Duration = timedelta(minutes=10)
    idle: Duration = timedelta(minutes=30)

    @model_validator(mode="after")
    def _one_transport(self) -> UpstreamSettings:
        if (self.command is None) == (self.url is None):
            raise _expected("exactly one of command (stdio) and url (HTTP)")
        if self.env and self.command is None:
            raise _expected("no env beside url: an environment is a command's")
        if self.headers and self.url is None:
            raise _expected("no headers beside command: they are sent to a url")
        if "idle" in self.model_fields_set and self.command is None:
            raise _expected("no idle beside url: only processes of a command are ended when unused")
        return self


class ApprovalSettings(Section):
    """How long a held call and its approval last, how many an agent may ask for, whether answers are kept."""

    timeout: Duration = timedelta(minutes=15)
    execute_within: Duration = timedelta(minutes=15)
    retry_grace: Duration = timedelta(minutes=2)
    patience: Duration = timedelta(seconds=50)
    reject_memory: Duration = timedelta(minutes=10)
    allow_self: bool = False
    results: Literal["capped", "none"] = "capped"
    max_pending: Annotated[int, Field(ge=1)] = 20
    max_per_hour: Annotated[int, Field(ge=1)] = 60


class ClientSettings(Section):
    """What is known of a client: when it gives up a call, and whether progress begins that time anew."""

    gives_up: Duration
    progress_resets: bool = False


class SlackSettings(Section):
    """The Slack app. With an `app_token` it connects to Slack, else Slack sends requests, signed with `signing_secret`.

    `channel` is where approvals are told that name no place; `groups` are broker groups, each with the user group that
    stands for it.
    """

    bot_token: SecretStr
    app_token: SecretStr | None = None
    signing_secret: SecretStr | None = None
    channel: SlackChannelName = "#approvals"
    api_url: HttpUrl = "https://slack.com/api/"
    groups: dict[Word, SlackGroup] = Field(default_factory=dict[str, str])

    @model_validator(mode="after")
    def _one_way_in(self) -> SlackSettings:
        if self.app_token is None and self.signing_secret is None:
            raise _expected(
                "an app_token (the broker connects to Slack) or a signing_secret (Slack calls the broker) beside it"
            )
        return self


class OidcSettings(Section):
    """The OpenID Connect provider that people sign in with, beside one-time links.

    `groups_claim` names the claim of its ID tokens that lists groups; `roles` are groups, each with the role that it
    stands for.
    """

    issuer: Issuer
    client_id: Word
    client_secret: SecretStr
    groups_claim: Word = "groups"
    roles: dict[Word, Role] = Field(default_factory=dict[str, Role])


class Sections(Section):
    """The whole file."""

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    upstreams: dict[UpstreamName, UpstreamSettings] = Field(default_factory=dict[str, UpstreamSettings])
    approvals: ApprovalSettings = ApprovalSettings()
    clients: dict[ClientName, ClientSettings] = Field(default_factory=dict[str, ClientSettings])
    slack: SlackSettings | None = None
    oidc: OidcSettings | None = None
