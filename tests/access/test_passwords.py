"""Passwords are kept so that nobody reads them, and compared whole."""

from __future__ import annotations

import pytest

from vedette.access.passwords import LONGEST, NOBODY, SHORTEST, digest, hash_password, is_password, new_secret
from vedette.errors import BadInput

GOOD = "correct horse battery staple"


def test_a_password_is_known_again_and_no_other_is() -> None:
    kept = hash_password(GOOD)
    assert is_password(GOOD, kept)
    assert not any(is_password(wrong, kept) for wrong in ("", GOOD[:-1], GOOD + " ", GOOD.upper()))


def test_the_same_password_is_kept_differently_each_time_and_never_as_it_is() -> None:
    one, two = hash_password(GOOD), hash_password(GOOD)
    assert one != two and GOOD not in one and one.startswith("scrypt$32768$8$1$")


@pytest.mark.parametrize("password", ["", "x" * (SHORTEST - 1), "x" * (LONGEST + 1)])
def test_too_short_and_too_long_ones_are_refused(password: str) -> None:
    with pytest.raises(BadInput, match=f"{SHORTEST} to {LONGEST} characters"):
        hash_password(password)


@pytest.mark.parametrize(
    "password", ["x" * SHORTEST, "x" * LONGEST, "pässwörter-€-密码-🔑", "half a pair \ud800 of surrogates", "a\0b\nc\td e f"]
)
def test_every_other_text_is_a_password(password: str) -> None:
    kept = hash_password(password)
    assert is_password(password, kept) and not is_password(password[::-1] + "x", kept)


def test_what_is_checked_of_nobody_is_no_password() -> None:
    assert not is_password("", NOBODY) and not is_password(GOOD, NOBODY)


def test_a_hash_of_other_parameters_is_still_read() -> None:
    """So that they may be raised, and old passwords stay good."""
    weaker = "scrypt$16$1$1$AAAAAAAAAAAAAAAAAAAAAA==$"
    import base64
    import hashlib

    wanted = hashlib.scrypt(GOOD.encode(), salt=bytes(16), n=16, r=1, p=1, dklen=32)
    assert is_password(GOOD, weaker + base64.b64encode(wanted).decode())
    assert not is_password(GOOD + "!", weaker + base64.b64encode(wanted).decode())


def test_secrets_need_no_quoting_and_are_never_twice_the_same() -> None:
    found = {new_secret() for _ in range(100)}
    assert len(found) == 100 and all(len(one) >= 43 and one.replace("-", "").replace("_", "").isalnum() for one in found)


def test_a_digest_is_the_same_of_text_and_bytes() -> None:
    assert digest("key") == digest(b"key") != digest("Key") and len(digest("")) == 64
