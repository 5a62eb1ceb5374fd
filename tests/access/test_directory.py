"""Users, keys, tenants and sessions, in real records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vedette.access.directory import Directory, parse_name, parse_tenant
from vedette.access.passwords import hash_password, is_password
from vedette.access.principal import Principal
from vedette.clock import ManualClock
from vedette.errors import BadInput, NotFound
from vedette.records.database import Records

PASSWORD = "correct horse"


@pytest.fixture
async def records(empty_records: Path) -> AsyncIterator[Records]:
    opened = await Records.open(empty_records)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def directory(records: Records, clock: ManualClock) -> Directory:
    return Directory(records, clock)


async def again(records: Records, clock: ManualClock) -> Directory:
    """The directory as another process, or this one after a restart, sees it."""
    found = Directory(records, clock)
    await found.refresh()
    return found


class TestUsers:
    async def test_a_user_may_log_in_after_a_restart(self, directory: Directory, records: Records, clock: ManualClock) -> None:
        assert not directory.anyone
        await directory.put_user("alice", password=PASSWORD, role="admin", tenant="acme")
        for found in (directory, await again(records, clock)):
            assert found.anyone
            assert found.check_password("alice", PASSWORD) == Principal("alice", "admin", "acme", kind="session")
            assert found.check_password("alice", PASSWORD + " ") is None
            assert found.check_password("bob", PASSWORD) is None

    async def test_no_password_is_kept(self, directory: Directory, tmp_path: Path) -> None:
        await directory.put_user("alice", password=PASSWORD)
        kept = b"".join(f.read_bytes() for f in tmp_path.iterdir())
        assert b"alice" in kept
        assert PASSWORD.encode() not in kept

    async def test_a_change_ends_sessions_and_a_disabled_user_is_out(self, directory: Directory) -> None:
        await directory.put_user("alice", password=PASSWORD)
        secret, _ = await directory.begin("alice", 1000)
        await directory.put_user("alice", role="operator")
        assert directory.session(secret) is None
        secret, _ = await directory.begin("alice", 1000)
        await directory.put_user("alice", disabled=True)
        assert directory.session(secret) is None
        assert directory.check_password("alice", PASSWORD) is None
        assert not directory.anyone
        await directory.put_user("alice", disabled=False)
        assert directory.check_password("alice", PASSWORD) is not None

    async def test_removed(self, directory: Directory, records: Records, clock: ManualClock) -> None:
        await directory.put_user("alice", password=PASSWORD)
        secret, _ = await directory.begin("alice", 1000)
        await directory.drop_user("alice")
        for found in (directory, await again(records, clock)):
            assert found.check_password("alice", PASSWORD) is None
            assert found.session(secret) is None
        with pytest.raises(NotFound, match="alice"):
            await directory.drop_user("alice")

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({}, "needs a password"),
            ({"password": "short"}, "10 to 1024"),
            ({"password": "x" * 1025}, "10 to 1024"),
            ({"password": PASSWORD, "role": "root"}, "viewer, operator, admin"),
            ({"password": PASSWORD, "tenant": "a/b"}, "tenant"),
        ],
    )
    async def test_refused(self, directory: Directory, given: dict[str, str], says: str) -> None:
        with pytest.raises(BadInput, match=says):
            await directory.put_user("alice", **given)  # type: ignore[arg-type]
        assert not directory.users

    @pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "x" * 151, "a\n"])
    def test_names(self, name: str) -> None:
        with pytest.raises(BadInput):
            parse_name(name)

    @pytest.mark.parametrize("name", ["", ".", "..", "*", "a/b", "ä", "x" * 151, "a\n"])
    def test_tenants_names(self, name: str) -> None:
        with pytest.raises(BadInput):
            parse_tenant(name)


class TestKeys:
    async def test_a_key_names_its_owner(self, directory: Directory, records: Records, clock: ManualClock, tmp_path: Path) -> None:
        row, secret = await directory.new_key("push", role="operator", tenant="acme", scopes=("write",), author="alice")
        wanted = Principal("push", "operator", "acme", ("write",), kind="api_key", key_id=row.id)
        assert await directory.key(secret) == wanted
        assert await (await again(records, clock)).key(secret) == wanted
        assert await directory.key(secret + "x") is None
        assert await directory.key(secret[:-1]) is None
        assert await directory.key("vdt_unknown_secret") is None
        assert secret.encode() not in b"".join(f.read_bytes() for f in tmp_path.iterdir())

    async def test_one_that_expired_or_was_revoked(self, directory: Directory, clock: ManualClock) -> None:
        _, short = await directory.new_key("a", role="viewer", tenant="acme", expires_at=int(clock.now() * 1000) + 5000)
        row, other = await directory.new_key("b", role="viewer", tenant="acme")
        await clock.advance(4)
        assert await directory.key(short) is not None
        await clock.advance(1)
        assert await directory.key(short) is None
        assert directory.anyone
        await directory.revoke_key(row.id)
        assert await directory.key(other) is None
        assert not directory.anyone
        assert {k.name for k in directory.keys.values()} == {"a", "b"}, "they stay listed"
        with pytest.raises(NotFound):
            await directory.revoke_key("nothing")

    async def test_one_that_another_process_made_is_found(self, directory: Directory, records: Records, clock: ManualClock) -> None:
        _, secret = await (await again(records, clock)).new_key("cli", role="viewer", tenant="acme")
        assert await directory.key(secret) is not None
        _, second = await (await again(records, clock)).new_key("cli2", role="viewer", tenant="acme")
        assert await directory.key(second) is None, "the records were read a moment ago"
        await clock.advance(1)
        assert await directory.key(second) is not None

    async def test_an_unknown_scope(self, directory: Directory) -> None:
        with pytest.raises(BadInput, match="read, write, alerts, admin"):
            await directory.new_key("a", role="viewer", tenant="acme", scopes=("everything",))


class TestTenants:
    async def test_made_listed_and_forgotten(self, directory: Directory, records: Records, clock: ManualClock) -> None:
        await directory.put_tenant("acme", "Acme Ltd")
        await directory.put_user("bob", password=PASSWORD, tenant="other")
        await directory.put_user("root", password=PASSWORD, tenant="*")
        assert directory.tenant_names() == ["acme", "default", "other"]
        assert (await again(records, clock)).tenants["acme"].title == "Acme Ltd"
        await directory.put_user("alice", password=PASSWORD, tenant="acme")
        with pytest.raises(BadInput, match="still has alice"):
            await directory.drop_tenant("acme")
        await directory.drop_user("alice")
        await directory.drop_tenant("acme")
        assert directory.tenant_names() == ["default", "other"]


class TestSessions:
    async def test_begin_and_end(self, directory: Directory, records: Records, clock: ManualClock) -> None:
        secret, row = await directory.begin("alice", 10_000)
        assert directory.session(secret) == row
        assert (await again(records, clock)).session(secret) == row
        await directory.end(secret)
        await directory.end(secret)
        assert directory.session(secret) is None

    async def test_they_end_by_themselves_and_are_swept(self, directory: Directory, records: Records, clock: ManualClock) -> None:
        secret, _ = await directory.begin("alice", 10_000)
        await clock.advance(10)
        assert directory.session(secret) is None
        await directory.begin("alice", 10_000)
        assert len((await again(records, clock))._sessions) == 1


def test_the_same_password_is_hashed_differently_each_time() -> None:
    one, two = hash_password(PASSWORD), hash_password(PASSWORD)
    assert one != two
    assert is_password(PASSWORD, one)
    assert is_password(PASSWORD, two)
    assert not is_password(PASSWORD.upper(), one)
