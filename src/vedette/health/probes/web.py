"""HTTP and TCP: does somebody answer; and language model servers, which say what they have loaded."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson

from vedette.errors import BadInput, Undeliverable
from vedette.health.check import DEGRADED, HEALTHY, UNHEALTHY, Finding
from vedette.net.client import HttpClient

_MOST_BYTES = 1 << 20


async def http(url: str, timeout_s: float) -> Finding:
    """A GET: 2xx and 3xx are healthy."""
    try:
        status, _ = await _asked(url, timeout_s)
    except (Undeliverable, BadInput) as error:
        return Finding(UNHEALTHY, str(error))
    return Finding(HEALTHY) if status < 400 else Finding(UNHEALTHY, f"server returned HTTP status {status}")


async def tcp(address: str, timeout_s: float) -> Finding:
    """A connection to `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except TimeoutError:
        return Finding(UNHEALTHY, f"no connection within {timeout_s:g}s")
    except OSError as error:
        return Finding(UNHEALTHY, error.strerror or str(error))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Finding(HEALTHY)


async def llm(url: str, timeout_s: float) -> Finding:
    """llama.cpp's `/health` and, there and elsewhere, OpenAI's `/v1/models`; a model that is still being loaded is degraded."""
    base = url.rstrip("/").removesuffix("/v1")
    try:
        status, health = await _asked(f"{base}/health", timeout_s)
        known, models = await _asked(f"{base}/v1/models", timeout_s)
    except (Undeliverable, BadInput) as error:
        return Finding(UNHEALTHY, str(error), {"model_loaded": False})
    names = [m["id"] for m in _list(models, "data") if isinstance(m, dict) and isinstance(m.get("id"), str)]
    figures: dict[str, Any] = {"model_loaded": known < 400 and bool(names), **({"model": names[0]} if names else {})}
    if status == 503:  # llama.cpp, while it loads
        return Finding(DEGRADED, "the model is being loaded", {**figures, "model_loaded": False})
    # Servers that are not llama.cpp have no /health: that they list their models is answer enough.
    if status >= 400 and known >= 400:
        return Finding(UNHEALTHY, f"neither /health ({status}) nor /v1/models ({known}) answered")
    if isinstance(health, dict) and health.get("status") in ("error", "loading model"):
        return Finding(DEGRADED, str(health["status"]), {**figures, "model_loaded": False})
    return Finding(HEALTHY, "", figures)


async def _asked(url: str, timeout_s: float) -> tuple[int, Any]:
    """(status, the body as JSON, None where it is none)."""
    client = HttpClient()
    try:
        answer = await client.get(url, timeout=timeout_s, max_bytes=_MOST_BYTES)
    finally:
        await client.close()
    try:
        return answer.status, orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return answer.status, None


def _list(body: Any, name: str) -> list[Any]:
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, list) else []
