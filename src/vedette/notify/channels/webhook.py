"""Alertmanager's webhook, payload version 4, byte for byte what receivers written for it expect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from vedette.model.alerts import Alert
from vedette.net import Answer, read_secret
from vedette.notify.config import WebhookConfig
from vedette.notify.notice import Notice, Receipt

TIMEOUT_S = 30.0
"""How long one try may take where the configuration does not say."""

_ZERO_TIME = "0001-01-01T00:00:00Z"


class Http(Protocol):
    """What channels need of an HTTP client (`net.HttpClient`)."""

    async def post_json(
        self,
        url: str,
        payload: Any,
        *,
        timeout: float,  # noqa: ASYNC109 - as `net.HttpClient` has it
        headers: Mapping[str, str] | None = None,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """POST a value as JSON, `leaving` awaited just before. Raises `Undeliverable` where no answer comes."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


def rfc3339(ms: int) -> str:
    """A time as Go's RFC3339Nano in UTC: trailing zeros of the fraction are left out."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    fraction = f".{ms % 1000:03d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def payload(notice: Notice, *, max_alerts: int = 0) -> dict[str, Any]:
    """The message for a notice; beyond `max_alerts` (0: all) alerts are only counted."""
    shown = notice.alerts[:max_alerts] if max_alerts else notice.alerts
    return {
        "receiver": notice.receiver,
        "status": notice.status,
        "alerts": [_alert(a, notice.now) for a in shown],
        "groupLabels": dict(notice.group_labels),
        "commonLabels": dict(notice.common_labels()),
        "commonAnnotations": dict(notice.common_annotations()),
        "externalURL": notice.external_url,
        "version": "4",
        "groupKey": notice.group_key,
        "truncatedAlerts": len(notice.alerts) - len(shown),
    }


def _alert(alert: Alert, now: int) -> dict[str, Any]:
    status = alert.status(now)
    return {
        "status": status,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": rfc3339(alert.starts_at),
        # The end of an alert that fires is a guess, and not shown.
        "endsAt": rfc3339(alert.ends_at) if status == "resolved" else _ZERO_TIME,
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
    }


class Webhook:
    """One webhook of one receiver."""

    kind = "webhook"

    def __init__(self, config: WebhookConfig, http: Http) -> None:
        self.send_resolved = config.send_resolved
        self._config = config
        self._http = http

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """POST the notice. The header `Idempotency-Key` is the same for all tries of one notification."""
        config = self._config
        # Read for each notification, so that a rotated URL needs no reload.
        url = await asyncio.to_thread(read_secret, config.url_file) if config.url_file else config.url
        answer = await self._http.post_json(
            url,
            payload(notice, max_alerts=config.max_alerts),
            timeout=min(seconds, config.timeout / 1000 or TIMEOUT_S),
            headers={"Idempotency-Key": notice.attempt},
            leaving=leaving,
        )
        answer.check()
        return Receipt(f"{answer.status}")

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()
