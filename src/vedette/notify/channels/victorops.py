"""VictorOps (Splunk On-Call), by its REST endpoint: one incident for a group."""

from __future__ import annotations

from urllib.parse import quote

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, group_id, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import VictoropsConfig
from vedette.notify.template import Templates, Words

API = "https://alert.victorops.com/integrations/generic/20131114/alert/"
MAX_MESSAGE = 20_480
_TYPES = frozenset(("CRITICAL", "WARNING", "INFO"))


class Victorops(HttpChannel):
    """One routing key of one receiver."""

    kind = "victorops"

    def __init__(self, config: VictoropsConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._global = config, fallback

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config, outer, text = self._config, self._global, words.text
        key = secret(config.api_key, config.api_key_file) or secret(outer.victorops_api_key, outer.victorops_api_key_file)
        base = (config.api_url or outer.victorops_api_url or API).rstrip("/")
        kind = text(config.message_type)
        message = {
            "message_type": "RECOVERY" if notice.status == "resolved" else kind if kind in _TYPES else "CRITICAL",
            "entity_id": group_id(notice),
            "entity_display_name": text(config.entity_display_name),
            "state_message": cut(text(config.state_message), MAX_MESSAGE),
            "monitoring_tool": text(config.monitoring_tool),
            **words.all(config.custom_fields),
        }
        return Letter(f"{base}/{quote(key, safe='')}/{quote(text(config.routing_key), safe='')}", message)
