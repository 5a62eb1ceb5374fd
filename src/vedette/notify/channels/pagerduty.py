"""PagerDuty, by its Events API v2, or v1 for a service key: one incident for a group, triggered while it fires, resolved then."""

from __future__ import annotations

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, group_id, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import PagerdutyConfig
from vedette.notify.template import Templates, Words

EVENTS = "https://events.pagerduty.com/v2/enqueue"
EVENTS_V1 = "https://events.pagerduty.com/generic/2010-04-15/create_event.json"
MAX_SUMMARY = 1024
MAX_DETAIL = 64 << 10
"""Characters of one detail: an event of over 512 KB is refused."""


class Pagerduty(HttpChannel):
    """One PagerDuty service of one receiver."""

    kind = "pagerduty"

    def __init__(self, config: PagerdutyConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._first = not config.routing_key and not config.routing_key_file
        self._config, self._url = config, config.url or fallback.pagerduty_url or (EVENTS_V1 if self._first else EVENTS)
        self.timeout_ms = config.timeout

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The event."""
        config, text = self._config, words.text
        if self._first:
            return self._letter_v1(notice, words)
        client = text(config.client)
        payload = filled(
            summary=cut(text(config.description), MAX_SUMMARY),
            source=text(config.source) or client,
            severity=text(config.severity),
            **{"class": text(config.class_)},
            component=text(config.component),
            group=text(config.group),
            custom_details={name: cut(value, MAX_DETAIL) for name, value in words.all(config.all_details()).items()},
        )
        event = filled(
            routing_key=secret(config.routing_key, config.routing_key_file),
            dedup_key=group_id(notice),
            event_action="trigger" if notice.status == "firing" else "resolve",
            client=client,
            client_url=text(config.client_url),
            payload=payload,
            images=[filled(src=text(i.src), alt=text(i.alt), href=text(i.href)) for i in config.images],
            links=[filled(href=text(k.href), text=text(k.text)) for k in config.links],
        )
        return Letter(self._url, event)

    def _letter_v1(self, notice: Notice, words: Words) -> Letter:
        config, text = self._config, words.text
        event = filled(
            service_key=secret(config.service_key, config.service_key_file),
            incident_key=group_id(notice),
            event_type="trigger" if notice.status == "firing" else "resolve",
            description=cut(text(config.description), MAX_SUMMARY),
            client=text(config.client),
            client_url=text(config.client_url) if notice.status == "firing" else "",
            details={name: cut(value, MAX_DETAIL) for name, value in words.all(config.all_details()).items()},
        )
        return Letter(self._url, event)
