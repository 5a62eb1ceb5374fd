"""OpsGenie, by its Alert API: one alert for a group, created while it fires (again and again: its alias is the same), closed then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from vedette.notify.channels.posting import TIMEOUT_S, Http, HttpChannel, Letter, cut, filled, group_id, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice, Receipt
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

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """As `notice.Channel` promises. An alert that exists takes no other words by being created again; `update_alerts` sets them."""
        receipt = await super().deliver(notice, seconds=seconds, leaving=leaving)
        if self._config.update_alerts and notice.status == "firing":
            letter = await asyncio.to_thread(lambda: self.letter(notice, self._templates.over(notice)))
            for name in ("message", "description"):
                url = f"{letter.url}/{group_id(notice)}/{name}?identifierType=alias"
                body, limit = {name: letter.payload.get(name, "")}, min(seconds, TIMEOUT_S)
                typed = {"Content-Type": "application/json", **letter.headers}
                (await self._http.ask_json("PUT", url, body, timeout=limit, headers=typed)).check()
        return receipt


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
