from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from broker.domain.people import Role
from broker.errors import SettingsError
from broker.settings import Settings, load_settings

SECRET = "0123456789abcdef0123456789abcdef"
OIDC = "[oidc]\nclient_id = 'x'\nclient_secret = 'hunter2'\n"
SLACK = "[slack]\nbot_token = 'hunter2'\nsigning_secret = 'hunter2'\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.delenv("BROKER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str) -> Settings:
    Path("broker.toml").write_text(text)
    return load_settings()


def mistake(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_a_file_everything_has_a_default(folder: Path) -> None:
    settings = load_settings()
    assert settings.store_url() == f"sqlite:///{folder}/broker.db"
    assert settings.public_url == "http://127.0.0.1:8750"
    assert settings.upstreams == {}
    assert settings.folder == folder


def test_every_setting_of_this_version_is_read(folder: Path) -> None:
    settings = load("""
        [server]
        host = "::1"
        port = 9000
        secret = ["env:NEW", "env:OLD"]
        stop_within = "20s"
        workers = 2
        [store]
        url = "postgresql://u@h/db"
        [upstreams.git]
        command = ["git-server", "-v"]
        env = { A = "b" }
        policy = "policies/git.json"
        idle = "1h"
        [upstreams.web-1]
        url = "https://example.com/mcp"
        answer_within = "30s"
        headers = { X-Team = "us" }
        [approvals]
        timeout = "90s"
        execute_within = "1h"
        results = "none"
        [clients."My Agent*"]
        gives_up = "20m"
        progress_resets = true
        [slack]
        bot_token = "xoxb-1"
        app_token = "xapp-1"
        signing_secret = "s"
        channel = "#desk"
        api_url = "http://localhost:9/api/"
        groups = { owners = "S0123ABCD" }
        [oidc]
        issuer = "http://localhost:9/realms/us"
        client_id = "broker"
        client_secret = "hunter2"
        groups_claim = "teams"
        roles = { "desk/owners" = "approver" }
    """)
    assert settings.public_url == "http://[::1]:9000"
    assert settings.store_url() == "postgresql://u@h/db"
    assert settings.upstreams["git"].command == ["git-server", "-v"]
    assert settings.upstreams["git"].env == {"A": "b"}
    assert settings.policy_path("git") == folder / "policies/git.json"
    assert settings.policy_path("web-1") is None
    assert settings.headers("web-1") == {"X-Team": "us"}
    assert settings.server.stop_within == timedelta(seconds=20)
    assert settings.server.workers == 2
    assert settings.upstreams["git"].idle == timedelta(hours=1)
    assert settings.upstreams["web-1"].answer_within == timedelta(seconds=30)
    assert settings.approvals.timeout == timedelta(seconds=90)
    assert settings.approvals.execute_within == timedelta(hours=1)
    assert settings.approvals.results == "none"
    assert settings.clients["my agent*"].gives_up == timedelta(minutes=20)
    assert settings.clients["my agent*"].progress_resets is True
    assert settings.slack is not None
    assert (settings.slack.channel, settings.slack.groups) == ("#desk", {"owners": "S0123ABCD"})
    assert settings.slack.api_url == "http://localhost:9/api/"
    assert settings.oidc is not None
    assert (settings.oidc.issuer, settings.oidc.groups_claim) == ("http://localhost:9/realms/us", "teams")
    assert settings.oidc.roles == {"desk/owners": Role.APPROVER}
    assert settings.client_secret() == "hunter2"
    assert "hunter2" not in repr(settings)


def test_relative_paths_start_at_the_folder_of_the_file(folder: Path) -> None:
    (folder / "etc").mkdir()
    (folder / "etc/b.toml").write_text('[upstreams.git]\ncommand = ["x"]\npolicy = "p.json"')
    settings = load_settings(Path("etc/b.toml"))
    assert settings.folder == folder / "etc"
    assert settings.store_url() == f"sqlite:///{folder}/etc/broker.db"
    assert settings.policy_path("git") == folder / "etc/p.json"


def test_a_variable_can_name_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "other.toml").write_text("[server]\nport = 1")
    monkeypatch.setenv("BROKER_CONFIG", "other.toml")
    assert load("[server]\nport = 2").server.port == 1


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_SERVER__PORT", "9001")
    monkeypatch.setenv("BROKER_UPSTREAMS__GIT__COMMAND", '["from-environment"]')
    monkeypatch.setenv("BROKER_CLIENTS__ZED__GIVES_UP", "2m")
    settings = load('[server]\nhost = "::1"\nport = 1\n[upstreams.git]\ncommand = ["from-file"]\nenv = { A = "b" }')
    assert settings.server.port == 9001
    assert settings.server.host == "::1"
    assert settings.upstreams["git"].command == ["from-environment"]
    assert settings.upstreams["git"].env == {"A": "b"}
    assert settings.clients["zed"].gives_up == timedelta(minutes=2)


def test_variables_of_the_commands_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "http://x")
    monkeypatch.setenv("BROKER_TOKEN", "x")
    assert load("").upstreams == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nport = 1\nprot = 2", "line 3, server.prot: this version has no such setting; the nearest is port."),
        (
            "\n[upstrems.git]\nurl = 'http://x'",
            "line 2, upstrems: this version has no such setting; the nearest is ups",
        ),
        ("[webhook]\nurl = 'x'", "line 1, webhook: this version has no such setting; there are server, store,"),
        ("[slack]\nchannel = '#x'", "line 1, slack.bot_token: is missing."),
        ("[oidc]\nissuer = 'https://x'\nclient_id = 'x'", "line 1, oidc.client_secret: is missing."),
        (OIDC + "issuer = 'http://id.example.com'", "line 4, oidc.issuer: expected the https URL of an issuer,"),
        (OIDC + "issuer = 'https://id.example.com?x'", "line 4, oidc.issuer: expected the https URL of an issuer,"),
        (OIDC + "issuer = 'https://x'\nroles = { a = 'boss' }", "line 5, oidc.roles.a: expected"),
        (
            "[slack]\nbot_token = 'hunter2'",
            "line 1, slack: expected an app_token (the broker connects to Slack) or a sig",
        ),
        (SLACK + "channel = 'general'", "line 4, slack.channel: expected a channel such as #approvals, or its id"),
        (SLACK + "api_url = 'slack.com'", "line 4, slack.api_url: expected an http or https URL"),
        (SLACK + "groups = { owners = '@owners' }", "line 4, slack.groups.owners: expected the id of a user group"),
        (SLACK + "chanel = '#x'", "line 4, slack.chanel: this version has no such setting; the nearest is channel."),
        ("[upstreams.git]\nurl = 'http://x'\n'polcy' = 'x'", "line 3, upstreams.git.polcy: this version has no such"),
        ("upstreams.git.url = 'http://x'\nserver.port = 'a'", "line 2, server.port: expected a whole number."),
        (
            "[approvals]\ntimeout = 'soon'",
            "line 2, approvals.timeout: expected a duration such as 90s, 15m, 1h or 30d.",
        ),
        ("[upstreams.x]\nurl = 'http://x'\nidle = '1h'", "upstreams.x: expected no idle beside url"),
        ('[clients."My.Agent"]\ngives_up = "soon"', "line 2, clients.My.Agent.gives_up: expected a duration such as"),
        ("[clients.zed]\nprogress_resets = true", "line 1, clients.zed.gives_up: is missing."),
        (
            "[clients.zed]\ngives_in = '1m'",
            "line 2, clients.zed.gives_in: this version has no such setting; the nearest",
        ),
        ("[approvals]\ntimeout = 15", "line 2, approvals.timeout: expected a duration"),
        ("[approvals]\nresults = 'all'", "line 2, approvals.results: expected 'capped' or 'none'."),
        ("[server]\nport = 70000", "line 2, server.port: expected 65535 or less."),
        ("[server]\nsecret = 'hunter2hunter2'", "line 2, server.secret: expected file:PATH, env:NAME, or a list"),
        ("[server]\nsecret = []", "line 2, server.secret: expected file:PATH, env:NAME, or a list"),
        (
            "[server]\npublic_url = 'https://x/y'",
            "line 2, server.public_url: expected an http or https URL without a path",
        ),
        ("[store]\nurl = 'mysql://x'", "line 2, store.url: expected sqlite:///PATH or postgresql://…"),
        ("[store]\nurl = 'sqlite:///:memory:'", "line 2, store.url: expected sqlite:///PATH or postgresql://…"),
        ("[upstreams.Git]\nurl = 'http://x'", "line 1, upstreams.Git: expected a name of 1 to 64 lower-case letters"),
        ("[upstreams.git]\npolicy = 'x'", "line 1, upstreams.git: expected exactly one of command (stdio) and url"),
        ("[upstreams.git]\nurl = 'http://x'\ncommand = ['x']", "line 1, upstreams.git: expected exactly one of"),
        ("[upstreams.git]\nurl = 'http://x'\nenv = { A = 'b' }", "line 1, upstreams.git: expected no env beside url"),
        (
            "[upstreams.git]\ncommand = ['x']\nheaders = { A = 'b' }",
            "line 1, upstreams.git: expected no headers beside",
        ),
        ("[upstreams.git]\ncommand = 'x'", "line 2, upstreams.git.command: expected a list."),
        ("[upstreams.git]\ncommand = []", "line 2, upstreams.git.command: expected at least one."),
        ("[upstreams.git]\ncommand = ['']", "line 2, upstreams.git.command.0: expected some text."),
        ("[upstreams.git]\nurl = 'http://x'\nheaders = 'x'", "line 3, upstreams.git.headers: expected a table."),
        (
            "[upstreams.git]\nurl = 'http://x'\nheaders = { 'X Key' = 'hunter2' }",
            "line 3, upstreams.git.headers.X Key: expected the name of an HTTP header, such as X-Api-Key.",
        ),
        ("[upstreams.git]\nurl = 'file:///x'", "line 2, upstreams.git.url: expected an http or https URL"),
        ("server = 1", "line 1, server: expected a table."),
    ],
)
def test_a_mistake_names_file_line_and_key_and_what_was_expected(text: str, says: str, folder: Path) -> None:
    message = mistake(text)
    assert message.startswith(f"{folder}/broker.toml, ")
    assert says in message


def test_what_is_not_toml_is_told_with_its_line() -> None:
    assert "broker.toml is not TOML" in (message := mistake("[server]\nport ="))
    assert mistake("[server\nport = 1").endswith("(at line 1, column 8).")
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("BROKER_SERVER__PROT", "1", "BROKER_SERVER__PROT in the environment, server.prot: this version has no such"),
        (
            "BROKER_SEVER__PORT",
            "1",
            "BROKER_SEVER__PORT in the environment: this version has no such setting; the near",
        ),
        ("BROKER_SERVER__PORT", "x", "BROKER_SERVER__PORT in the environment, server.port: expected a whole number."),
        ("BROKER_SERVER", "{}", "BROKER_SERVER in the environment: expected one BROKER_SERVER__KEY for each key."),
        ("BROKER_UPSTREAMS__A__ENV__B", "c", "expected a table as JSON in BROKER_UPSTREAMS__A__ENV."),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert says in mistake("")


def test_a_file_that_was_named_has_to_be_there() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml cannot be read: No such file"):
        load_settings(Path("nowhere.toml"))


def test_headers_are_looked_up_in_the_environment_and_in_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TOKEN", "Bearer from-environment")
    (folder / "key").write_text("from-file\n")
    settings = load(
        "[upstreams.a]\nurl = 'http://x'\nheaders = { Authorization = 'env:GIT_TOKEN', X-Key = 'file:key' }"
    )
    assert settings.headers("a") == {"Authorization": "Bearer from-environment", "X-Key": "from-file"}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("env:NOT_SET", "upstreams.a.headers.X: the environment variable NOT_SET is not set."),
        ("file:nowhere", "/nowhere cannot be read: No such file"),
    ],
)
def test_a_header_that_leads_nowhere_is_a_mistake_with_its_line(value: str, says: str) -> None:
    settings = load(f"[upstreams.a]\nurl = 'http://x'\nheaders = {{ X = '{value}' }}")
    with pytest.raises(SettingsError) as caught:
        settings.headers("a")
    assert "broker.toml, line 3, " in str(caught.value)
    assert says in str(caught.value)


def test_the_secrets_of_slack_are_looked_up_and_are_of_their_kinds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOT", "xoxb-1\n")
    monkeypatch.setenv("BROKER_SLACK__GROUPS", '{"owners": "S0123ABCD"}')
    (folder / "signing").write_text(f"{SECRET}\n")
    settings = load("[slack]\nbot_token = 'env:BOT'\napp_token = 'env:BOT'\nsigning_secret = 'file:signing'")
    assert settings.slack_secret("bot_token") == "xoxb-1"
    assert settings.slack_secret("signing_secret") == SECRET
    assert settings.slack is not None
    assert settings.slack.groups == {"owners": "S0123ABCD"}
    with pytest.raises(
        SettingsError, match=r"line 3, slack\.app_token: expected a token that begins with xapp-,"
    ) as caught:
        settings.slack_secret("app_token")
    assert "xoxb-1" not in str(caught.value)
    assert load("[slack]\nbot_token = 'env:BOT'\nsigning_secret = 'x'").slack_secret("app_token") is None
    with pytest.raises(SettingsError, match=r"line 2, slack\.bot_token: the environment variable NONE is not set"):
        load("[slack]\nbot_token = 'env:NONE'\nsigning_secret = 'x'").slack_secret("bot_token")


def test_no_secret_is_in_a_repr_or_in_an_error() -> None:
    settings = load(f"""
        [slack]
        bot_token = "{SECRET}"
        app_token = "{SECRET}"
        signing_secret = "{SECRET}"
        [store]
        url = "postgresql://u:{SECRET}@h/db"
        [upstreams.a]
        url = "http://x"
        headers = {{ Authorization = "Bearer {SECRET}" }}
        [upstreams.b]
        command = ["x"]
        env = {{ KEY = "{SECRET}" }}
    """)
    assert SECRET not in repr(settings)
    assert SECRET not in mistake(f"[server]\nsecret = '{SECRET}'")
    assert SECRET not in mistake(f"[slack]\nbot_token = '{SECRET}'")
    with pytest.raises(SettingsError) as caught:
        load(f"[store]\nurl = 'mysql://u:{SECRET}@h'")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_secret_is_made_once_beside_a_sqlite_store(folder: Path) -> None:
    (first,) = load_settings().secrets()
    assert len(bytes.fromhex(first.decode())) == 32
    assert stat.S_IMODE((folder / "broker.secret").stat().st_mode) == 0o600
    assert load_settings().secrets() == [first]
    assert [path.name for path in folder.iterdir()] == ["broker.secret"]


def test_no_secret_is_made_beside_a_shared_store(folder: Path) -> None:
    settings = load("[store]\nurl = 'postgresql://h/db'")
    with pytest.raises(SettingsError, match="only made beside a SQLite store"):
        settings.secrets()
    assert not (folder / "broker.secret").exists()


def test_a_list_of_secrets_rotates_and_only_the_newest_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD_SECRET", SECRET)
    settings = load("[server]\nsecret = ['file:new', 'env:OLD_SECRET']")
    made = (settings.secrets(), (folder / "new").read_bytes())
    assert made == ([made[1], SECRET.encode()], made[1])
    with pytest.raises(SettingsError, match="old cannot be read"):
        load("[server]\nsecret = ['file:new', 'file:old']").secrets()


def test_a_secret_that_others_may_read_is_refused(folder: Path) -> None:
    path = folder / "broker.secret"
    path.write_text(SECRET)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match=f"others may read {path}: run `chmod 600 {path}`"):
        load_settings().secrets()


def test_a_secret_that_is_missing_or_too_short_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load("[server]\nsecret = 'env:SOME_SECRET'")
    with pytest.raises(SettingsError, match=r"line 2, server.secret: the environment variable SOME_SECRET is not set"):
        settings.secrets()
    monkeypatch.setenv("SOME_SECRET", "short")
    with pytest.raises(SettingsError, match="has fewer than 16 bytes"):
        settings.secrets()


@pytest.mark.parametrize("value", [f"{SECRET}\\u0000", f"{SECRET}\\nX-Evil: 1", f"{SECRET}\\u00fc"])
def test_a_header_that_http_does_not_allow_is_a_mistake_that_does_not_repeat_it(value: str) -> None:
    settings = load(f'[upstreams.a]\nurl = "http://x"\nheaders = {{ X = "{value}" }}')
    with pytest.raises(SettingsError, match=r"broker.toml, line 3, upstreams.a.headers.X: the value has") as caught:
        settings.headers("a")
    assert SECRET not in str(caught.value)


def test_white_space_around_a_header_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TOKEN", " from-environment\n")
    settings = load("[upstreams.a]\nurl = 'http://x'\nheaders = { X = 'env:GIT_TOKEN', Y = ' y ' }")
    assert settings.headers("a") == {"X": "from-environment", "Y": "y"}


def test_a_file_with_a_byte_order_mark_is_told_so() -> None:
    assert "broker.toml starts with a byte-order mark: save it as UTF-8 without one." in mistake("\ufeff[server]")


def test_a_default_that_is_wrong_is_not_blamed_on_a_line_of_the_file(folder: Path) -> None:
    (folder / "broker.secret").write_text("short")
    (folder / "broker.secret").chmod(0o600)
    with pytest.raises(SettingsError, match=r"^server\.secret: the secret in file:broker\.secret has fewer than"):
        load("[server]\nport = 1").secrets()
