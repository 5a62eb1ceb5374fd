"""Tokens: what is good, and all that is not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vedette.access.jwks import AGE_S, KeySet, parse
from vedette.access.principal import Principal
from vedette.access.settings import AccessSettings
from vedette.access.tokens import Tokens
from vedette.clock import ManualClock
from vedette.errors import BadInput

SECRET = "a-secret-of-more-than-thirty-two-bytes"
NOW = 1_700_000_000.0


def tokens(**settings: Any) -> tuple[Tokens, ManualClock]:
    clock = ManualClock(NOW)
    return Tokens(AccessSettings(**{"jwt_secret": SECRET, **settings}), clock), clock


def signed(claims: dict[str, Any], *, secret: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    whole = {"sub": "alice", "exp": NOW + 60, **claims}
    return jwt.encode({k: v for k, v in whole.items() if v is not None}, secret, algorithm=algorithm, headers=header or None)


async def who(found: Tokens, token: str) -> Principal | None:
    verified = await found.verify(token)
    return verified[0] if verified else None


async def test_what_is_issued_is_good_until_it_expires() -> None:
    found, clock = tokens()
    token = found.issue("alice", role="operator", tenant="acme")
    assert await who(found, token) == Principal("alice", "operator", "acme", kind="token")
    await clock.advance(3599)
    assert await who(found, token) is not None
    await clock.advance(1)
    assert await who(found, token) is None


async def test_scopes_travel_along() -> None:
    found, _ = tokens()
    principal = await who(found, found.issue("push", role="operator", tenant="acme", scopes=("write",)))
    assert principal is not None
    assert principal.may("write")
    assert not principal.may("read")


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({}, "viewer"),
        ({"role": "admin"}, "admin"),
        ({"role": "ADMIN"}, "admin"),
        ({"role": "editor"}, "operator"),
        ({"role": ["viewer", "operator", "something"]}, "operator"),
        ({"role": "root"}, "viewer"),
        ({"role": 7}, "viewer"),
        ({"role": {"admin": True}}, "viewer"),
    ],
)
async def test_roles(claims: dict[str, Any], role: str) -> None:
    principal = await who(tokens()[0], signed(claims))
    assert principal is not None
    assert principal.role == role


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": NOW - 1},
        {"exp": NOW},
        {"exp": True},
        {"nbf": NOW + 31},
        {"sub": None},
        {"sub": ""},
        {"aud": "another service"},
        {"aud": ["another service"]},
        {"tenant_id": ""},
        {"tenant_id": 3},
        {"tenant_id": "../acme"},
        {"tenant_id": ".."},
        {"tenant_id": "a\x00"},
        {"tenant_id": "x" * 151},
        {"sub": "a\x00"},
        {"sub": "a\nb"},
        {"sub": "x" * 257},
    ],
    ids=str,
)
async def test_claims_that_are_no_good(claims: dict[str, Any]) -> None:
    assert await who(tokens()[0], signed(claims)) is None


async def test_an_issuers_clock_may_be_a_little_ahead() -> None:
    assert await who(tokens()[0], signed({"nbf": NOW + 30, "iat": NOW + 30})) is not None


async def test_names_of_other_issuers() -> None:
    for name in ("auth0|5f7c8ec7c33c6c004bbafe82", "https://id.example/users/7", "Zoë Müller", "CN=alice,O=Acme"):
        assert await who(tokens()[0], signed({"sub": name})) is not None, name


async def test_who_it_is_meant_for_and_who_issued_it() -> None:
    assert await who(tokens()[0], signed({"aud": ["x", "vedette"]})) is not None
    strict, _ = tokens(jwt_audience="monitoring", jwt_issuer="https://id.example")
    assert await who(strict, signed({"aud": "monitoring", "iss": "https://id.example"})) is not None
    assert await who(strict, signed({"iss": "https://id.example"})) is None, "a token that names no audience"
    assert await who(strict, signed({"aud": "vedette", "iss": "https://id.example"})) is None
    assert await who(strict, signed({"aud": "monitoring", "iss": "https://evil.example"})) is None
    assert await who(strict, signed({"aud": "monitoring"})) is None


async def test_claims_by_other_names() -> None:
    found, _ = tokens(jwt_role_claim="groups", jwt_tenant_claim="org")
    assert await who(found, signed({"groups": ["admin"], "org": "acme"})) == Principal("alice", "admin", "acme", kind="token")


def unsigned(claims: dict[str, Any], algorithm: str) -> str:
    def part(value: Any) -> str:
        return jwt.utils.base64url_encode(json.dumps(value).encode()).decode()

    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part({'sub': 'alice', 'exp': NOW + 60, **claims})}."


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS256"])
async def test_without_a_signature(algorithm: str) -> None:
    assert await who(tokens()[0], unsigned({"role": "admin"}, algorithm)) is None


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "x" * 20_000, "ey.ey.ey", "\x00.\x00.\x00", "ünï.cöde.x"])
async def test_what_is_no_token(text: str) -> None:
    assert await who(tokens()[0], text) is None


async def test_another_secret_or_a_changed_letter() -> None:
    found, _ = tokens()
    assert await who(found, signed({}, secret="another-secret-of-more-than-thirty-two-bytes")) is None
    good = signed({"role": "viewer"})
    head, body, signature = good.split(".")
    forged = jwt.utils.base64url_encode(json.dumps({"sub": "alice", "exp": NOW + 60, "role": "admin"}).encode()).decode()
    assert await who(found, f"{head}.{forged}.{signature}") is None
    assert await who(found, f"{head}.{body}.{signature[:-2]}") is None
    assert await who(found, good) is not None


async def test_a_short_secret_works_and_warns_nobody_each_time() -> None:
    found, _ = tokens(jwt_secret="your-secret-key")
    assert await who(found, found.issue("alice", role="viewer", tenant="default")) is not None


async def test_secret_key_stands_in() -> None:
    found, _ = tokens(jwt_secret="", secret_key=SECRET)
    assert await who(found, signed({})) is not None
    nobody, _ = tokens(jwt_secret="")
    assert await who(nobody, signed({})) is None
    with pytest.raises(BadInput, match="JWT_SECRET"):
        nobody.issue("alice", role="viewer", tenant="default")


class TestKeySets:
    """Tokens of an issuer that publishes its keys."""

    def keys(self, path: Path) -> dict[str, Any]:
        private = {"r": rsa.generate_private_key(public_exponent=65537, key_size=2048), "e": ec.generate_private_key(ec.SECP256R1())}
        published = []
        for kid, key in private.items():
            algorithm = jwt.get_algorithm_by_name("RS256" if kid == "r" else "ES256")
            published.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"})  # type: ignore[attr-defined]
        path.write_text(json.dumps({"keys": published}))
        return private

    async def test_each_kind_of_key(self, tmp_path: Path) -> None:
        private = self.keys(tmp_path / "jwks.json")
        found, _ = tokens(jwt_secret="", jwks=str(tmp_path / "jwks.json"))
        assert await who(found, signed({"role": "admin"}, secret=private["r"], algorithm="RS256", kid="r")) is not None
        assert await who(found, signed({}, secret=private["e"], algorithm="ES256", kid="e")) is not None
        assert await who(found, signed({}, secret=private["e"], algorithm="ES256")) is not None, "the only key of its kind"
        assert await who(found, signed({}, secret=private["e"], algorithm="ES256", kid="r")) is None
        assert await who(found, signed({})) is None, "a secret that was never given"

    async def test_a_public_key_is_no_secret(self, tmp_path: Path) -> None:
        private = self.keys(tmp_path / "jwks.json")
        pem = private["r"].public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        head, body = unsigned({"role": "admin"}, "HS256").split(".")[:2]
        import hashlib
        import hmac

        signature = jwt.utils.base64url_encode(hmac.digest(pem, f"{head}.{body}".encode(), hashlib.sha256)).decode()
        for secret in ("", SECRET):
            found, _ = tokens(jwt_secret=secret, jwks=str(tmp_path / "jwks.json"))
            assert await who(found, f"{head}.{body}.{signature}") is None

    async def test_new_keys_are_found_but_not_asked_for_all_the_time(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "jwks.json", ManualClock(NOW)
        keys = KeySet(str(path), clock)
        assert await keys.find("r", "RS256") is None, "there is no file yet"
        self.keys(path)
        assert await keys.find("r", "RS256") is None, "it was looked for just now"
        await clock.advance(30)
        assert await keys.find("r", "RS256") is not None
        path.unlink()
        await clock.advance(300)
        assert await keys.find("unknown", "RS256") is None
        assert await keys.find("r", "RS256") is not None, "those known stay"

    async def test_a_key_that_its_issuer_withdrew_is_no_good_after_a_while(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "jwks.json", ManualClock(NOW)
        keys = KeySet(str(path), clock)
        self.keys(path)
        assert await keys.find("r", "RS256") is not None
        path.write_text('{"keys": []}')
        await clock.advance(AGE_S - 1)
        assert await keys.find("r", "RS256") is not None
        await clock.advance(1)
        assert await keys.find("r", "RS256") is None

    async def test_an_issuer_that_cannot_be_reached_is_no_key_withdrawn(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "jwks.json", ManualClock(NOW)
        keys = KeySet(str(path), clock)
        self.keys(path)
        assert await keys.find("r", "RS256") is not None
        path.write_text("gone")
        for _ in range(5):
            await clock.advance(AGE_S)
            assert await keys.find("r", "RS256") is not None

    async def test_one_asks_the_issuer_and_nobody_waits_for_that(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "jwks.json", ManualClock(NOW)
        asked, answer = 0, asyncio.Event()

        class Slow(KeySet):
            async def _read(self) -> bytes:
                nonlocal asked
                asked += 1
                if asked > 1:
                    await answer.wait()
                return path.read_bytes()

        keys = Slow("https://id.example/jwks", clock)
        self.keys(path)
        assert await keys.find("r", "RS256") is not None
        await clock.advance(AGE_S)
        first = asyncio.create_task(keys.find("r", "RS256"))
        await asyncio.sleep(0)
        assert await keys.find("r", "RS256") is not None, "while another asks"
        answer.set()
        assert await first is not None
        assert asked == 2

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": 1}', b"\xff"])
    def test_what_is_no_key_set(self, body: bytes) -> None:
        with pytest.raises(BadInput, match=r"keys\.json"):
            parse(body, where="keys.json")

    def test_symmetric_and_unknown_keys_are_left_out(self) -> None:
        secret = {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}
        assert parse(json.dumps({"keys": [secret, {"kty": "new"}, 7, {}]}).encode(), where="x") == []
