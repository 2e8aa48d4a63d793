"""Grants, people and tokens: commands on the store itself, with no server running."""

from __future__ import annotations

import asyncio
import json
import stat
from datetime import datetime, timedelta

import pytest

from broker.domain.clock import SystemClock
from broker.store import grants, identities, people
from broker.store.people import CredentialKind
from broker.store.writer import Store
from tests.cli.conftest import Shell

CREATE = ("grant", "create", "--upstream", "git", "--label", "ci", "--owner", " Alice@Example.com ")


def opened(shell: Shell) -> Store:
    return Store(f"sqlite:///{shell.folder / 'broker.db'}", SystemClock())


def test_a_grant_is_made_with_a_token_that_is_shown_once_and_not_stored(shell: Shell) -> None:
    made = shell.json(*CREATE, "--upstream", "desktop", "--expires", "30d", "--patience", "4m")
    assert set(made) == {"id", "token"}
    store = opened(shell)
    found = store.read_now(lambda session: grants.by_token(session, made["token"]))
    store.close()
    assert found is not None
    assert (found.id, found.label, found.owner) == (made["id"], "ci", "alice@example.com")
    assert found.upstreams == {"git", "desktop"}
    assert found.expires_at == found.created_at + timedelta(days=30)
    assert found.patience == timedelta(minutes=4)
    assert [grant["patience"] for grant in shell.json("grant", "list")] == ["4m"]
    assert made["token"].encode() not in (shell.folder / "broker.db").read_bytes()


def test_a_new_grant_is_told_with_how_to_use_it(shell: Shell) -> None:
    told = "\n".join(shell.lines(*CREATE))
    assert "http://127.0.0.1:8750/mcp/git" in told
    assert "Authorization: Bearer" in told
    assert "  bg_" in told


def test_grants_are_listed_rotated_and_revoked(shell: Shell) -> None:
    first = shell.json(*CREATE)
    second = shell.json("grant", "rotate", first["id"])
    assert second["id"] == first["id"]
    assert second["token"] != first["token"]
    assert shell.json("grant", "list")[0]["state"] == "live"
    shell.lines("grant", "revoke", first["id"])
    (listed,) = shell.json("grant", "list")
    assert (listed["id"], listed["state"]) == (first["id"], "revoked")
    assert datetime.fromisoformat(listed["revoked_at"]) > datetime.fromisoformat(listed["created_at"])
    assert first["id"] in shell.refused("grant", "revoke", first["id"])
    assert first["id"] in shell.refused("grant", "rotate", first["id"])


def test_a_grant_is_only_for_upstreams_that_there_are(shell: Shell) -> None:
    said = shell.refused("grant", "create", "--upstream", "gti", "--label", "x", "--owner", "a@b.c")
    assert said == "broker: There is no upstream gti in the settings; the nearest is git. No grant was made."
    assert shell.json("grant", "list") == []


def test_a_person_is_added_changed_listed_and_removed(shell: Shell) -> None:
    shell.lines("user", "add", "Bob@x.org", "--role", "approver", "--role", "auditor", "--group", "ops")
    assert shell.json("user", "list") == [
        {"email": "bob@x.org", "roles": ["approver", "auditor"], "groups": ["ops"], "accounts": []}
    ]
    shell.lines("user", "add", "bob@x.org", "--role", "admin")
    assert shell.json("user", "list") == [{"email": "bob@x.org", "roles": ["admin"], "groups": [], "accounts": []}]
    shell.lines("user", "remove", "BOB@x.org")
    assert shell.json("user", "list") == []
    assert "bob@x.org" in shell.refused("user", "remove", "bob@x.org")


def test_who_a_person_is_elsewhere_is_listed_and_let_go_of(shell: Shell) -> None:
    shell.lines("user", "add", "bob@x.org", "--group", "ops")
    assert "not linked" in shell.refused("user", "unlink", "bob@x.org")
    store = opened(shell)
    asyncio.run(store.write(lambda tx: identities.link(tx, "slack:T1", "U1", "bob@x.org")))
    asyncio.run(store.write(lambda tx: identities.vouch(tx, "slack:T1", {"U1": frozenset({"desk"})})))
    store.close()
    (bob,) = shell.json("user", "list")
    assert bob["groups"] == ["desk", "ops"]
    (account,) = bob["accounts"]
    assert (account["provider"], account["subject"], account["groups"]) == ("slack:T1", "U1", ["desk"])
    assert shell.lines("user", "list") == ["bob@x.org\t-\tdesk, ops\tslack:T1 U1 (desk)"]
    shell.lines("user", "unlink", "BOB@x.org")
    assert shell.json("user", "list") == [{"email": "bob@x.org", "roles": [], "groups": ["ops"], "accounts": []}]
    assert shell.json("audit", "search")[0]["kind"] == "person.unlinked"


def test_a_sign_in_link_is_good_once_printed(shell: Shell) -> None:
    assert "user add" in shell.refused("sign-in", "bob@x.org")
    shell.lines("user", "add", "bob@x.org")
    link = shell.json("sign-in", "bob@x.org", BROKER_SERVER__PUBLIC_URL="https://broker.example")
    address, _, secret = link["url"].partition("?token=")
    assert address == "https://broker.example/sign-in"
    store = opened(shell)
    now = SystemClock().now()
    assert store.read_now(lambda session: people.owner_of_link(session, secret, now)) == "bob@x.org"
    late = now + timedelta(minutes=15)
    assert store.read_now(lambda session: people.owner_of_link(session, secret, late)) is None
    store.close()


def test_a_token_signs_its_person_in_until_it_is_revoked(shell: Shell) -> None:
    shell.lines("user", "add", "bob@x.org")
    made = shell.json("token", "create", "bob@x.org", "--label", "laptop")
    (listed,) = shell.json("token", "list")
    assert (listed["id"], listed["person"], listed["label"]) == (made["id"], "bob@x.org", "laptop")
    shell.lines("token", "revoke", made["id"])
    store = opened(shell)
    now = SystemClock().now()
    assert store.read_now(lambda s: people.authenticate(s, CredentialKind.TOKEN, made["token"], now)) is None
    store.close()
    assert shell.json("token", "list") == []


def test_every_change_is_in_the_record_with_the_user_who_made_it(shell: Shell) -> None:
    grant = shell.json(*CREATE)
    shell.lines("user", "add", "bob@x.org")
    shell.lines("sign-in", "bob@x.org")
    shell.lines("grant", "revoke", grant["id"])
    rows = shell.json("audit", "search")
    assert [row["kind"] for row in rows] == ["grant.revoked", "link.created", "person.saved", "grant.created"]
    assert {row["actor"].partition(":")[0] for row in rows} == {"cli"}


def test_the_store_and_its_secrets_are_nobody_elses(shell: Shell) -> None:
    shell.lines(*CREATE)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shell.folder.glob("broker.db*")}
    assert set(modes.values()) == {0o600}


def test_a_list_in_a_pipe_is_one_line_each_with_tabs_and_no_hidden_characters(shell: Shell) -> None:
    label = "red\x1b[31m\u202e\t[bold]x[/bold] " + "long " * 60
    made = shell.json("grant", "create", "--upstream", "git", "--label", label, "--owner", "a@b.c")
    (line,) = shell.lines("grant", "list")
    shown = "red\\u001b[31m\\u202e\\t[bold]x[/bold] " + "long " * 60
    assert line.split("\t") == [made["id"], "live", shown, "a@b.c", "git", "-", "-"]


def test_settings_can_be_named_by_option(shell: Shell) -> None:
    (shell.folder / "other.toml").write_text('[store]\nurl = "sqlite:///other.db"')
    shell.lines("user", "add", "bob@x.org", "--config", "other.toml")
    assert (shell.folder / "other.db").exists()
    assert not (shell.folder / "broker.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("grant", "create", "--label", "x", "--owner", "a@b.c"),
        ("grant", "create", "--upstream", "git", "--label", "x", "--owner", "nobody"),
        (*CREATE, "--expires", "soon"),
        (*CREATE, "--label", " "),
        ("approvals", "list", "--state", "waiting"),
        ("user", "add", "bob@x.org", "--role", "king"),
        ("user", "add", "bob"),
        ("no-such-command",),
        ("audit", "search", "--since", "once"),
        (),
    ],
)
def test_wrong_usage_ends_with_status_2_and_changes_nothing(arguments: tuple[str, ...], shell: Shell) -> None:
    done = shell.run(*arguments)
    assert done.status == 2
    assert "Traceback" not in done.stderr
    assert not (shell.folder / "broker.db").exists()


def test_wrong_settings_end_with_status_2_and_one_line(shell: Shell) -> None:
    (shell.folder / "broker.toml").write_text("[server]\nprot = 1")
    said = shell.refused("user", "list", status=2)
    assert said.startswith("broker: ")
    assert said.endswith("broker.toml, line 2, server.prot: this version has no such setting; the nearest is port.")


def test_a_store_that_cannot_be_opened_is_one_line(shell: Shell) -> None:
    (shell.folder / "broker.toml").write_text('[store]\nurl = "sqlite:///nowhere/broker.db"')
    assert "cannot be opened" in shell.refused("user", "list")


def test_json_is_ascii_whatever_it_says(shell: Shell) -> None:
    shell.lines("user", "add", "bob@x.org", "--group", "\u202eops")
    (line,) = shell.lines("user", "list", "--json")
    assert line.isascii()
    assert json.loads(line)[0]["groups"] == ["\u202eops"]
