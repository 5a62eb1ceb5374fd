"""Who may do what, whatever role, scopes and tenant somebody has."""

from __future__ import annotations

import itertools

import pytest

from vedette.access.principal import ANY_TENANT, OPEN, ROLES, SCOPES, Principal, is_tenant, parse_role, parse_scopes
from vedette.errors import BadInput

MAY = {
    "viewer": {"read"},
    "operator": {"read", "write", "alerts"},
    "admin": {"read", "write", "alerts", "admin"},
}


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_may_and_scopes_only_ever_take_away(role: str) -> None:
    for length in range(len(SCOPES) + 1):
        for scopes in itertools.combinations(SCOPES, length):
            who = Principal("alice", role, scopes=scopes)
            may = {need for need in SCOPES if who.may(need)}
            assert may == (MAY[role] & set(scopes) if scopes else MAY[role]), scopes
            assert who.may("known") and who.may("nothing")


@pytest.mark.parametrize(
    ("own", "asked", "tenant"),
    [
        ("blue", None, "blue"),
        ("blue", "blue", "blue"),
        ("blue", "red", None),
        ("blue", "", None),
        ("blue", ANY_TENANT, None),
        (ANY_TENANT, None, "default"),
        (ANY_TENANT, "", "default"),
        (ANY_TENANT, "red", "red"),
    ],
)
def test_nobody_names_another_tenant_than_theirs(own: str, asked: str | None, tenant: str | None) -> None:
    assert Principal("charlie", "admin", own).tenant_for(asked) == tenant


def test_who_is_asked_nothing_may_everything() -> None:
    assert all(OPEN.may(need) for need in SCOPES) and OPEN.tenant_for("any") == "any"


@pytest.mark.parametrize("text", ["default", "team-1", "a.b", "(x)", "it's", "a*b", "x" * 150, "...", "!"])
def test_texts_that_name_a_tenant(text: str) -> None:
    assert is_tenant(text)


@pytest.mark.parametrize("text", ["", ".", "..", "*", "a/b", "a\\b", "a b", "a\n", "a\0", "ä", "x" * 151, "a|b", "../x"])
def test_texts_that_name_none_though_a_path_or_a_header_could_hold_them(text: str) -> None:
    assert not is_tenant(text)


@pytest.mark.parametrize("text", ["", "Admin", "root", "viewer "])
def test_what_is_no_role_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(BadInput, match="viewer, operator, admin"):
        parse_role(text)
    assert [parse_role(role) for role in ROLES] == list(ROLES)


def test_scopes_are_each_once_and_in_order() -> None:
    assert parse_scopes(["admin", "read", "read"]) == ("read", "admin")
    assert parse_scopes([]) == ()
    for unknown in ("known", "nothing", "Read", "all", ""):
        with pytest.raises(BadInput, match="not a scope"):
            parse_scopes(["read", unknown])
