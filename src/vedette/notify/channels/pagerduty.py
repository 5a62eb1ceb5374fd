"""PagerDuty, by its Events API v2: one incident for a group, triggered while it fires, resolved when it is over."""

from __future__ import annotations

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, group_id, secret
from vedette.notify.config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import PagerdutyConfig
from vedette.notify.template import Templates, Words

EVENTS = "https://events.pagerduty.com/v2/enqueue"
MAX_SUMMARY = 1024
MAX_DETAIL = 64 << 10
"""Characters of one detail: an event of over 512 KB is refused."""


class Pagerduty(HttpChannel):
    """One PagerDuty service of one receiver."""

    kind = "pagerduty"

    def __init__(self, config: PagerdutyConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._url = config, config.url or fallback.pagerduty_url or EVENTS
        self.timeout_ms = config.timeout

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The event."""
        config, text = self._config, words.text
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
