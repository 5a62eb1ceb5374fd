"""Passwords and random secrets: scrypt for what people choose, SHA-256 for what is random already.

The parameters are those of RFC 7914's interactive logins, doubled (N = 2^15, r = 8, p = 1: 32 MiB and about 60 ms), and
stand in each hash, so that they may be raised later.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from vedette.errors import BadInput

SHORTEST = 10
"""Characters of a password."""
LONGEST = 1024
"""Longer ones would let a stranger spend our time."""

_N, _R, _P = 1 << 15, 8, 1


def hash_password(password: str) -> str:
    """`scrypt$N$r$p$salt$hash`. Raises `BadInput` for one too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadInput(f"a password has {SHORTEST} to {LONGEST} characters", where="password")
    salt = secrets.token_bytes(16)
    return "$".join(("scrypt", str(_N), str(_R), str(_P), _text(salt), _text(_scrypt(password, salt, (_N, _R, _P)))))


def is_password(password: str, hashed: str) -> bool:
    """Whether a password is the one that was hashed; takes as long for a wrong one."""
    kind, n, r, p, salt, wanted = hashed.split("$")
    assert kind == "scrypt", kind
    found = _scrypt(password[:LONGEST], base64.b64decode(salt), (int(n), int(r), int(p)))
    return hmac.compare_digest(found, base64.b64decode(wanted)) and len(password) <= LONGEST


# Of no password: what is checked where there is no such user, so that the time taken does not tell.
NOBODY = "$".join(("scrypt", str(_N), str(_R), str(_P), base64.b64encode(bytes(16)).decode(), base64.b64encode(bytes(32)).decode()))


def new_secret() -> str:
    """256 random bits as text that needs no quoting anywhere."""
    return secrets.token_urlsafe(32)


def digest(secret: str | bytes) -> str:
    """How a random secret is kept: it has too many bits to be guessed from this."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
