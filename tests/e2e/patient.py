"""`httpx.get` and its kin for a machine that has much else to do: how long an answer takes is no test's business here."""

from __future__ import annotations

import functools

import httpx

SECONDS = 120.0
"""How long anything is waited for that a test says must come about. One that passes never waits so long."""

get = functools.partial(httpx.get, timeout=SECONDS)
post = functools.partial(httpx.post, timeout=SECONDS)
put = functools.partial(httpx.put, timeout=SECONDS)
delete = functools.partial(httpx.delete, timeout=SECONDS)
request = functools.partial(httpx.request, timeout=SECONDS)
