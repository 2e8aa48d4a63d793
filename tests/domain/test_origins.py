"""Which Host and Origin a request may name."""

from __future__ import annotations

import pytest

from broker.domain.origins import Origins

LOOPBACK = Origins("http://127.0.0.1:8750")
PUBLIC = Origins("https://broker.example.com")


@pytest.mark.parametrize("host", ["127.0.0.1:8750", "localhost:8750", "LOCALHOST:8750", "[::1]:8750"])
def test_a_loopback_broker_answers_to_every_loopback_name(host: str) -> None:
    assert LOOPBACK.allows_host(host)
    assert LOOPBACK.allows_origin(f"http://{host}")


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "localhost",
        "localhost:8751",
        "127.0.0.2:8750",
        "evil.example.com:8750",
        "localhost.evil.example.com:8750",
        "localhost:8750.evil.example.com",
        "user@localhost:8750",
        "localhost:8750 ",
    ],
)
def test_another_name_or_port_is_refused(host: str | None) -> None:
    assert not LOOPBACK.allows_host(host)


@pytest.mark.parametrize(
    "origin", ["null", "", "https://localhost:8750", "http://localhost:8750/", "http://evil.example.com", "file://"]
)
def test_a_page_from_elsewhere_is_refused(origin: str) -> None:
    assert not LOOPBACK.allows_origin(origin)


def test_a_program_that_no_page_made_has_no_origin() -> None:
    assert LOOPBACK.allows_origin(None)


@pytest.mark.parametrize("name", ["broker.example.com", "broker.example.com:443", "Broker.Example.com"])
def test_the_default_port_may_be_left_out(name: str) -> None:
    assert PUBLIC.allows_host(name)
    assert PUBLIC.allows_origin(f"https://{name}")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "broker.example.com:80", "example.com"])
def test_a_public_broker_does_not_answer_to_loopback_names(name: str) -> None:
    assert not PUBLIC.allows_host(name)


def test_an_address_of_six_has_its_brackets() -> None:
    assert Origins("http://[2001:db8::1]:8750").allows_host("[2001:db8::1]:8750")
