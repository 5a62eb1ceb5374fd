"""`vedette user|token|tenant`: who may do what, in the records of a data directory, whether or not a server runs on it.

A running server notices within a few seconds. Not here: the same over HTTP (`api.access`).
"""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from vedette.errors import BadInput, NotFound
from vedette.model.tenants import DEFAULT_TENANT

if TYPE_CHECKING:
    from vedette.access.directory import Directory
    from vedette.settings import Settings

T = TypeVar("T")

user = typer.Typer(help="People who may log in: add, list, change, remove.", no_args_is_help=True)
token = typer.Typer(help="API keys for programs, and signed tokens.", no_args_is_help=True)
tenant = typer.Typer(help="Tenants, which see nothing of one another.", no_args_is_help=True)

DataOption = Annotated[Path | None, typer.Option("--data", help="The data directory. [dim]default: ./data[/dim]")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The configuration file that the server uses.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
RoleOption = Annotated[str | None, typer.Option("--role", help="viewer (reads), operator (writes, acts on alerts) or admin.")]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="Whose data they see; * for every tenant's.")]


def _settings(data: Path | None, config: Path | None) -> Settings:
    # Here, and not above: every other command would pay for it.
    from vedette.settings import resolve

    return resolve(path=config, flags={("storage", "data"): data} if data else {}, environment=os.environ)


def _with(settings: Settings, act: Callable[[Directory], Awaitable[T]]) -> T:
    """Open the records, do one thing, close them."""
    from vedette.access.directory import Directory
    from vedette.clock import SystemClock
    from vedette.records.database import Records

    async def run() -> T:
        records = await Records.open(settings.records_place)
        try:
            directory = Directory(records, SystemClock())
            await directory.refresh()
            return await act(directory)
        finally:
            await records.close()

    if isinstance(settings.records_place, Path) and not settings.records_place.parent.is_dir():
        raise NotFound(f"{settings.records_place.parent}: no data directory yet: start the server once, or name another with --data")
    return asyncio.run(run())


def _password(given: Path | None) -> str:
    """A password from a file, from a pipe, or asked for twice."""
    if given is not None:
        try:
            return given.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot be read: {error}", where=str(given)) from None
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != first:
        raise BadInput("the two are not the same", where="password")
    return first


def _table(columns: list[str], rows: list[list[str]], empty: str) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        Console(stderr=True, highlight=False).print(empty)
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


def _when(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if ms else ""


PasswordOption = Annotated[Path | None, typer.Option("--password-file", help="Read the password there; else from stdin.")]


@user.command("add")
def user_add(
    name: NameArgument,
    role: RoleOption = None,
    tenant: TenantOption = None,
    password_file: PasswordOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a user. The first one makes the server ask everybody who they are."""
    from vedette.access.principal import parse_role

    settings, parsed = _settings(data, config), parse_role(role or "viewer")
    password = _password(password_file)

    async def act(directory: Directory) -> str:
        if name in directory.users:
            raise BadInput(f"there is a user {name} already", where="NAME", hint="vedette user change NAME")
        directory.expect_tenant(tenant or DEFAULT_TENANT)
        row = await directory.put_user(name, password=password, role=parsed, tenant=tenant or DEFAULT_TENANT)
        return f"{row.name} may log in as {row.role} of tenant {row.tenant}"

    print(_with(settings, act))


@user.command("change")
def user_change(
    name: NameArgument,
    role: RoleOption = None,
    tenant: TenantOption = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_file: PasswordOption = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Whether they may log in.")] = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Change a user's password, role, tenant, or whether they may log in; their sessions end."""
    settings = _settings(data, config)
    given = _password(password_file) if password or password_file else None

    async def act(directory: Directory) -> str:
        if name not in directory.users:
            raise NotFound(f"there is no user {name}")
        if tenant is not None:
            directory.expect_tenant(tenant)
        row = await directory.put_user(name, password=given, role=role, tenant=tenant, disabled=disabled)
        return f"{row.name}: {row.role} of tenant {row.tenant}{', disabled' if row.disabled else ''}"

    print(_with(settings, act))


@user.command("remove")
def user_remove(name: NameArgument, data: DataOption = None, config: ConfigOption = None) -> None:
    """Remove a user; their sessions and tokens end."""
    _with(_settings(data, config), lambda directory: directory.drop_user(name))
    print(f"removed {name}")


@user.command("list")
def user_list(data: DataOption = None, config: ConfigOption = None) -> None:
    """List users."""

    async def act(directory: Directory) -> list[list[str]]:
        users = sorted(directory.users.values(), key=lambda u: u.name)
        return [[u.name, u.role, u.tenant, "disabled" if u.disabled else "", _when(u.created_at)] for u in users]

    _table(["NAME", "ROLE", "TENANT", "", "SINCE (UTC)"], _with(_settings(data, config), act), "No users yet: vedette user add NAME")


@token.command("create")
def token_create(
    name: NameArgument,
    role: RoleOption = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="Confine it to read, write, alerts or admin; repeatable. [dim]default: what the role may[/dim]"),
    ] = None,
    tenant: TenantOption = None,
    expires: Annotated[
        str, typer.Option("--expires", help="After how long it is no good any more, such as 90d. [dim]default: never[/dim]")
    ] = "",
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Make an API key and print it: this once, since only its digest is kept."""
    from rich.console import Console

    from vedette.clock import SystemClock, now_ms
    from vedette.model.durations import parse_duration

    scopes = tuple(scope or ())
    # A key that is to write and nothing else would otherwise be one that may not.
    chosen = role or ("admin" if "admin" in scopes else "operator" if {"write", "alerts"} & set(scopes) else "viewer")
    until = now_ms(SystemClock()) + parse_duration(expires) if expires else 0

    async def act(directory: Directory) -> tuple[Any, str]:
        directory.expect_tenant(tenant or DEFAULT_TENANT)
        author = f"{getpass.getuser()} (command line)"
        return await directory.new_key(name, role=chosen, tenant=tenant or DEFAULT_TENANT, scopes=scopes, expires_at=until, author=author)

    row, secret = _with(_settings(data, config), act)
    may = row.scopes or f"role {row.role}"
    Console(stderr=True, highlight=False).print(f"Key {row.id} of tenant {row.tenant}: {may}. Keep it: it is not shown again.")
    print(secret)


@token.command("list")
def token_list(data: DataOption = None, config: ConfigOption = None) -> None:
    """List API keys, without their secrets."""
    from vedette.clock import SystemClock, now_ms

    now = now_ms(SystemClock())

    async def act(directory: Directory) -> list[list[str]]:
        keys = sorted(directory.keys.values(), key=lambda k: k.created_at)
        return [
            [
                k.id,
                k.name,
                k.role,
                k.scopes,
                k.tenant,
                _when(k.expires_at) or "never",
                "revoked" if k.revoked_at else "expired" if 0 < k.expires_at <= now else "good",
            ]
            for k in keys
        ]

    columns = ["ID", "NAME", "ROLE", "SCOPES", "TENANT", "EXPIRES (UTC)", "STATE"]
    _table(columns, _with(_settings(data, config), act), "No keys yet: vedette token create NAME")


@token.command("revoke")
def token_revoke(identity: Annotated[str, typer.Argument(metavar="ID")], data: DataOption = None, config: ConfigOption = None) -> None:
    """Make an API key useless, for good."""
    row = _with(_settings(data, config), lambda directory: directory.revoke_key(identity))
    print(f"revoked {row.id} ({row.name})")


@token.command("jwt")
def token_jwt(
    name: NameArgument,
    role: RoleOption = None,
    tenant: TenantOption = None,
    expires: Annotated[
        str, typer.Option("--expires", help="After how long it is no good any more. [dim]default: access.token_lifetime[/dim]")
    ] = "",
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Print a JSON Web Token, signed with JWT_SECRET: it needs no records, and cannot be revoked before it expires."""
    from vedette.access.principal import parse_role
    from vedette.access.tokens import Tokens
    from vedette.clock import SystemClock
    from vedette.model.durations import parse_duration

    access = _settings(data, config).vedette.access
    lifetime = parse_duration(expires) if expires else None
    tokens = Tokens(access, SystemClock())
    print(tokens.issue(name, role=parse_role(role or "viewer"), tenant=tenant or DEFAULT_TENANT, lifetime_ms=lifetime))


@tenant.command("add")
def tenant_add(
    name: NameArgument,
    title: Annotated[str, typer.Option("--title", help="What people call it.")] = "",
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a tenant."""
    row = _with(_settings(data, config), lambda directory: directory.put_tenant(name, title))
    print(f"tenant {row.name}: vedette user add NAME --tenant {row.name}")


@tenant.command("remove")
def tenant_remove(name: NameArgument, data: DataOption = None, config: ConfigOption = None) -> None:
    """Forget a tenant without users and keys; its data stays until retention takes it."""
    _with(_settings(data, config), lambda directory: directory.drop_tenant(name))
    print(f"forgot {name}")


@tenant.command("list")
def tenant_list(data: DataOption = None, config: ConfigOption = None) -> None:
    """List tenants with their users and keys."""

    from vedette.access.principal import ANY_TENANT

    async def act(directory: Directory) -> list[list[str]]:
        def members(name: str) -> tuple[int, int]:
            users = sum(u.tenant in (name, ANY_TENANT) for u in directory.users.values())
            return users, sum(k.tenant in (name, ANY_TENANT) and not k.revoked_at for k in directory.keys.values())

        found = [(name, directory.tenants.get(name), members(name)) for name in directory.tenant_names()]
        return [[name, row.title if row else "", str(users), str(keys)] for name, row, (users, keys) in found]

    _table(["NAME", "TITLE", "USERS", "KEYS"], _with(_settings(data, config), act), "No tenants.")
