"""Who somebody is, what a role permits, how long a grant lives."""

from __future__ import annotations

import itertools
import unicodedata
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.people import Grant, Permission, Person, Role, normal_email
from tests.clock import NOON

EVERYBODY = {Permission.ANYONE, Permission.SIGNED_IN}
PERMITTED = {
    Role.ADMIN: set(Permission),
    Role.APPROVER: EVERYBODY | {Permission.SEE_QUEUE, Permission.DECIDE},
    Role.POLICY_MANAGER: EVERYBODY | {Permission.SEE_POLICIES},
    Role.AUDITOR: EVERYBODY | {Permission.SEE_QUEUE, Permission.SEE_AUDIT, Permission.SEE_POLICIES},
}
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize("address", ["Alice@Example.COM", " alice@example.com ", "\talice@EXAMPLE.com\n"])
def test_addresses_compare_trimmed_and_case_folded(address: str) -> None:
    assert normal_email(address) == "alice@example.com"


def test_case_folding_knows_more_than_ascii() -> None:
    assert normal_email("STRASSE@example.com") == normal_email("straße@example.com")


@pytest.mark.parametrize(
    "address",
    [
        "\uff41lice\uff20example\uff0ecom",  # full-width, as an input method for Japanese writes it
        "alice@\uff45xample.com",
        "al\u200bice@example.com\ufeff",
        "\u00a0alice\u00ad@example.com\u3000",
        "\u202ealice@example.com",
    ],
)
def test_an_address_that_unicode_or_the_eye_takes_for_the_same_is_the_same(address: str) -> None:
    assert normal_email(address) == "alice@example.com"


@pytest.mark.parametrize("address", ["\u0430lice@example.com", "alice@example.\u0441\u043em"])  # Cyrillic
def test_letters_of_another_alphabet_are_other_letters(address: str) -> None:
    assert normal_email(address) != "alice@example.com"


@given(st.text())
def test_an_address_has_one_form_in_whichever_form_of_unicode_it_comes(address: str) -> None:
    normal = normal_email(address)
    assert normal_email(normal) == normal
    assert {normal_email(unicodedata.normalize(form, address)) for form in ("NFC", "NFD", "NFKC", "NFKD")} == {normal}


@pytest.mark.parametrize(("role", "permission"), list(itertools.product(Role, Permission)))
def test_a_role_permits_this_and_nothing_else(role: Role, permission: Permission) -> None:
    assert Person("a@example.com", frozenset({role})).may(permission) is (permission in PERMITTED[role])


def test_somebody_without_a_role_may_only_sign_in() -> None:
    assert {each for each in Permission if Person("a@example.com").may(each)} == EVERYBODY


def test_roles_add_up() -> None:
    both = Person("a@example.com", frozenset({Role.APPROVER, Role.AUDITOR}))
    assert {each for each in Permission if both.may(each)} == PERMITTED[Role.APPROVER] | PERMITTED[Role.AUDITOR]


def test_a_grant_lives_until_the_very_instant_it_expires() -> None:
    grant = Grant("grant_1", "ci", "o@example.com", frozenset({"desk"}), NOON, NOON + timedelta(days=1))
    assert grant.live(NOON + timedelta(days=1) - MICROSECOND)
    assert not grant.live(NOON + timedelta(days=1))


def test_a_grant_that_is_revoked_is_dead_whatever_its_expiry() -> None:
    unending = Grant("grant_1", "ci", "o@example.com", frozenset({"desk"}), NOON)
    assert unending.live(NOON + timedelta(days=36500))
    assert not Grant("grant_1", "ci", "o@example.com", frozenset(), NOON, None, NOON).live(NOON)
