"""OpsGenie, by its Alert API: one alert for a group, created while it fires (again and again: its alias is the same), closed then."""

from __future__ import annotations

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, group_id, secret
from vedette.notify.config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import OpsgenieConfig
from vedette.notify.template import Templates, Words

API = "https://api.opsgenie.com/"
MAX_MESSAGE, MAX_DESCRIPTION = 130, 15_000


class Opsgenie(HttpChannel):
    """One OpsGenie integration of one receiver."""

    kind = "opsgenie"

    def __init__(self, config: OpsgenieConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._global = config, fallback

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The alert, or the request to close it."""
        config, outer = self._config, self._global
        own = bool(config.api_key or config.api_key_file)
        source = (config.api_key, config.api_key_file) if own else (outer.opsgenie_api_key, outer.opsgenie_api_key_file)
        headers = {"Authorization": f"GenieKey {secret(*source)}"}
        base = (config.api_url or outer.opsgenie_api_url or API).rstrip("/")
        if notice.status == "resolved":
            url = f"{base}/v2/alerts/{group_id(notice)}/close?identifierType=alias"
            return Letter(url, filled(source=words.text(config.source)), headers)
        text = words.text
        alert = filled(
            alias=group_id(notice),
            message=cut(text(config.message), MAX_MESSAGE),
            description=cut(text(config.description), MAX_DESCRIPTION),
            details={**dict(notice.common_labels()), **words.all(config.details)},
            source=text(config.source),
            responders=[
                filled(id=text(r.id), name=text(r.name), username=text(r.username), type=text(r.type).lower()) for r in config.responders
            ],
            tags=_listed(text(config.tags)),
            actions=_listed(text(config.actions)),
            note=text(config.note),
            priority=text(config.priority),
            entity=text(config.entity),
        )
        return Letter(f"{base}/v2/alerts", alert, headers)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
