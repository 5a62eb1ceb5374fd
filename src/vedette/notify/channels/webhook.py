"""Alertmanager's webhook, payload version 4, byte for byte what receivers written for it expect."""

from __future__ import annotations

from typing import Any

from vedette.model.alerts import Alert
from vedette.notify.channels.posting import Http, HttpChannel, Letter, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.held import rfc3339
from vedette.notify.notice import Notice
from vedette.notify.receivers import WebhookConfig
from vedette.notify.template import Templates, Words, quoted

_ZERO_TIME = "0001-01-01T00:00:00Z"


def payload(notice: Notice, *, max_alerts: int = 0) -> dict[str, Any]:
    """The message for a notice; beyond `max_alerts` (0: all) alerts are only counted."""
    shown = notice.alerts[:max_alerts] if max_alerts else notice.alerts
    return {
        "receiver": quoted(notice.receiver),
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


class Webhook(HttpChannel):
    """One webhook of one receiver."""

    kind = "webhook"
    judged_by_status = True

    def __init__(self, config: WebhookConfig, _fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config = config
        self.timeout_ms = config.timeout
        self.at_once = not config.url_file and config.payload is None and "{{" not in config.url

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The notice. The header `Idempotency-Key` is the same for all tries of one notification."""
        config = self._config
        message: Any
        if config.payload is not None:
            message = words.values(config.payload)
        else:
            message = payload(notice, max_alerts=config.max_alerts)
            if notice.route_labels:
                message["routeLabels"] = words.route_labels()
        url = words.text(secret(config.url, config.url_file)).strip()
        return Letter(url, message, {"Idempotency-Key": notice.attempt})
