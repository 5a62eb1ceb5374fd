"""Asks a server that speaks Prometheus' HTTP API, and writes to it. Not here: queues, columns."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from vedette.errors import BadInput, LimitExceeded, NotFound, Undeliverable, Unreachable
from vedette.model.tenants import DEFAULT_TENANT
from vedette.net.client import HttpClient
from vedette.storage.remote.settings import RemoteSettings
from vedette.wire import remote_write2

_MOST_BYTES = 1 << 30
_RETRY_AFTER = 5.0
# An operator's mistake that an operator mends: what is queued must outlive it, and not be taken for bad.
_MENDABLE = frozenset((401, 402, 403, 404, 405, 407, 421))
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_WRITE = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


_WRITE2 = {**_WRITE, "Content-Type": remote_write2.CONTENT_TYPE, "X-Prometheus-Remote-Write-Version": remote_write2.VERSION}
_WRITTEN = "x-prometheus-remote-write-samples-written"


async def deliver(http: HttpClient, url: str, body: bytes, *, headers: Mapping[str, str], timeout_s: float, second: bool = False) -> None:
    """Post a body of remote write 1.0, as 2.0 where `second`.

    Raises `Undeliverable`, not `retryable` only where the samples are at fault.
    """
    if second:
        body = await asyncio.to_thread(remote_write2.from_first, body)
    answer = await http.post(url, body, timeout=timeout_s, headers={**(_WRITE2 if second else _WRITE), **headers})
    try:
        answer.check()
    except Undeliverable as error:
        said = answer.body[:500].decode("utf-8", "replace").strip()
        # A redirect that is not followed is an operator's to mend, too.
        retryable = error.retryable or answer.status in _MENDABLE or answer.status < 400
        raise Undeliverable(f"{error}: {said}", reason="status", retryable=retryable, retry_after=error.retry_after) from None


class Client:
    """One server. All coroutines belong to one loop."""

    def __init__(self, settings: RemoteSettings) -> None:
        self._settings = settings
        self._http = HttpClient(settings.http)
        self._write_url = settings.write_url or f"{settings.url}/api/v1/write"
        self._timeout = settings.timeout / 1000
        self._second: bool | None = None if settings.write_version == "auto" else settings.write_version == "2.0"

    def has(self, tenant: str) -> bool:
        """Whether the server can tell this tenant from others; of one that it cannot, nothing is there."""
        return bool(self._settings.tenant_header) or tenant == DEFAULT_TENANT

    def check_tenant(self, tenant: str) -> None:
        """Raises `NotFound` for a tenant that the server cannot tell from others."""
        if not self.has(tenant):
            raise NotFound(f"tenant {tenant!r}: the server behind has no tenants (remote.tenant_header)")

    def _headers(self, tenant: str) -> dict[str, str]:
        self.check_tenant(tenant)
        return {self._settings.tenant_header: tenant} if self._settings.tenant_header else {}

    async def write(self, tenant: str, body: bytes) -> None:
        """Write a snappy body of version 1.0. Raises `Undeliverable`, not `retryable` only where the samples are at fault."""
        headers = self._headers(tenant)
        if self._second is None and await self._takes_second(body, headers):
            return
        await deliver(self._http, self._write_url, body, headers=headers, timeout_s=self._timeout, second=self._second is True)

    async def _takes_second(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Find out whether the server takes version 2.0, by sending it a body; whether that is written then.

        One that knows nothing of it may well answer 204, having understood nothing: who knows it says how much was written.
        """
        packed = await asyncio.to_thread(remote_write2.from_first, body)
        answer = await self._http.post(self._write_url, packed, timeout=self._timeout, headers={**_WRITE2, **headers})
        if answer.status in _MENDABLE or answer.status >= 500 or answer.status == 429 or 300 <= answer.status < 400:
            return False  # nothing is known yet, and what is sent now goes the way that everybody knows
        self._second = _WRITTEN in {name.lower() for name in answer.headers}
        return self._second and 200 <= answer.status < 300

    async def ask(self, tenant: str, path: str, params: Sequence[tuple[str, str]] = (), *, post: bool = True) -> dict[str, Any]:
        """The whole answer of an operation of the API, `data` and warnings. Times are in `params`, already written.

        Raises `BadInput` for what the server finds wrong, `LimitExceeded` where the query is too much for it, `Unreachable` where
        it does not answer.
        """
        url = f"{self._settings.url}/api/v1/{path}"
        headers = self._headers(tenant)
        try:
            if post:
                body = urlencode(params).encode()
                answer = await self._http.post(url, body, timeout=self._timeout, headers={**_FORM, **headers}, max_bytes=_MOST_BYTES)
            else:
                query = f"?{urlencode(params)}" if params else ""
                answer = await self._http.get(url + query, timeout=self._timeout, headers=headers, max_bytes=_MOST_BYTES)
        except Undeliverable as error:
            raise Unreachable(f"the server behind does not answer: {error}", retry_after=_RETRY_AFTER) from error
        try:
            found = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            found = None
        if 200 <= answer.status < 300 and isinstance(found, dict) and found.get("status") == "success":
            return found
        raise _refusal(answer.status, found, answer.body)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def _refusal(status: int, found: Any, body: bytes) -> Exception:
    text = found.get("error") if isinstance(found, Mapping) else None
    said = str(text) if text else " ".join(body[:300].decode("utf-8", "replace").split()) or "no reason given"
    if status == 400:
        return BadInput(said)
    if status == 422:
        return LimitExceeded(said)
    if status == 404:
        return NotFound(f"the server behind answers 404: {said}")
    return Unreachable(f"the server behind answers {status}: {said}", retry_after=_RETRY_AFTER)


def in_path(name: str) -> str:
    """A label name as a part of a path; those that are no plain names as Prometheus 3 escapes them (`U__…`)."""
    if name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit():
        return quote(name)
    escaped = "".join("__" if c == "_" else c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in name)
    return f"U__{escaped}"


def seconds(ms: int) -> str:
    """A time of the API."""
    return f"{ms // 1000}.{ms % 1000:03d}"
