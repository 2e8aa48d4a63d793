"""The settings as the program has them: paths made absolute, and what they point to looked up.

`env:NAME` and `file:PATH` are looked up when they are needed, so that a command that needs no secret runs without one.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from pydantic import PrivateAttr, SecretStr

from broker.settings.shape import Sections
from broker.settings.source import Source, Steps

SECRET_BYTES = 16
"""The least length of a server secret, as `broker.domain.canonical.Keyring` asks for it."""

_SECRET: Steps = ("server", "secret")

_SLACK_TOKENS = {"bot_token": "xoxb-", "app_token": "xapp-"}
"""How tokens begin: https://docs.slack.dev/authentication/tokens."""


class Settings(Sections):
    """All settings. Made by `load_settings`, or directly; then relative paths start at the current folder."""

    _source: Source = PrivateAttr(default_factory=Source)

    @property
    def folder(self) -> Path:
        """Where relative paths start: the folder of the file, else the current one."""
        return self._source.folder

    @property
    def public_url(self) -> str:
        """What links start with; without a slash at the end."""
        host = f"[{self.server.host}]" if ":" in self.server.host else self.server.host
        return self.server.public_url or f"http://{host}:{self.server.port}"

    def store_url(self) -> str:
        """The database's URL; the path of a SQLite file is absolute."""
        scheme, _, path = self.store.url.partition(":///")
        return f"sqlite:///{self.folder / path}" if scheme == "sqlite" else self.store.url

    def policy_path(self, upstream: str) -> Path | None:
        """The absolute path of an upstream's policy document; None: every call is held."""
        policy = self.upstreams[upstream].policy
        return self.folder / policy if policy is not None else None

    def headers(self, upstream: str) -> dict[str, str]:
        """What is sent with each request to an upstream. Secrets: for requests, never for logs.

        Raises:
            SettingsError: a variable is not set, a file cannot be read, or HTTP has no such value (RFC 9110,
                section 5.5; bytes outside of ASCII mean something else to each server, so they are refused too).
        """
        given = self.upstreams[upstream].headers
        return {
            name: self._header(("upstreams", upstream, "headers", name), value.get_secret_value())
            for name, value in given.items()
        }

    def _header(self, at: Steps, value: str) -> str:
        found = self._look_up(at, value).strip()
        if not re.fullmatch(r"[\t\x20-\x7e]*", found):
            raise self._source.error(at, "the value has a line break or another character that no HTTP header may have")
        return found

    def slack_secret(self, key: str) -> str | None:
        """What proves something to Slack or of it: `bot_token`, `app_token` or `signing_secret`. Never for logs.

        Raises:
            SettingsError: a variable is not set, a file cannot be read, or it is a secret of another kind.
        """
        given: SecretStr | None = getattr(self.slack, key, None)
        if given is None:
            return None
        at = ("slack", key)
        found = self._header(at, given.get_secret_value())
        if (mark := _SLACK_TOKENS.get(key)) is not None and mark not in found:
            raise self._source.error(at, f"expected a token that begins with {mark}, and this is none")
        return found

    def client_secret(self) -> str:
        """What the sign-in provider knows the broker by; empty without one. Never for logs.

        Raises:
            SettingsError: a variable is not set, or a file cannot be read.
        """
        if self.oidc is None:
            return ""
        return self._look_up(("oidc", "client_secret"), self.oidc.client_secret.get_secret_value())

    def secrets(self) -> list[bytes]:
        """The server's secrets, newest first. The newest is made when it is a file that does not exist.

        Raises:
            SettingsError: one is missing, too short, or a file that others may read.
        """
        newest = self._places()[0]
        if newest.startswith("file:") and not self._path(newest).exists():
            self._make_secret(self._path(newest))
        return self.present_secrets()

    def present_secrets(self) -> list[bytes]:
        """The same without making any, for who only verifies: a secret made now has signed nothing.

        Raises:
            SettingsError: one is missing, too short, or a file that others may read.
        """
        return [self._secret(place) for place in self._places()]

    def _places(self) -> list[str]:
        given = self.server.secret
        return [given] if isinstance(given, str) else given

    # -- looking up ---------------------------------------------------------------------------------------------------

    def _path(self, place: str) -> Path:
        return self.folder / place.removeprefix("file:")

    def _look_up(self, at: Steps, value: str) -> str:
        kind, colon, name = value.partition(":")
        match kind + colon:
            case "env:":
                if found := os.environ.get(name):
                    return found
                raise self._source.error(at, f"the environment variable {name} is not set")
            case "file:":
                try:
                    return self._path(value).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    why = getattr(error, "strerror", None) or "it is not text"
                    raise self._source.error(at, f"the file {self._path(value)} cannot be read: {why}") from error
            case _:
                return value

    def _secret(self, place: str) -> bytes:
        if place.startswith("file:"):
            with suppress(OSError):  # reading it says why
                if stat.S_IMODE(self._path(place).stat().st_mode) & 0o077:
                    path = self._path(place)
                    raise self._source.error(_SECRET, f"others may read {path}: run `chmod 600 {path}`")
        found = self._look_up(_SECRET, place).encode()
        if len(found) < SECRET_BYTES:
            raise self._source.error(_SECRET, f"the secret in {place} has fewer than {SECRET_BYTES} bytes")
        return found

    def _make_secret(self, path: Path) -> None:
        if not self.store.url.startswith("sqlite:"):
            # Every server of a shared store needs the same secret: one that each made for itself would not do.
            raise self._source.error(
                _SECRET,
                f"the file {path} does not exist, and it is only made beside a SQLite store; "
                f"run `(umask 077; openssl rand -hex 32 > {path})` once and give it to every server of this store",
            )
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
            with suppress(FileExistsError):  # another process was faster: its secret counts
                os.link(draft, path)  # appears whole or not at all
            draft.unlink()
        except OSError as error:
            raise self._source.error(_SECRET, f"the file {path} cannot be made: {error.strerror}") from error
