"""Everything else: whatever service the library apprise has a URL for (`matrix://…`, `ntfy://…`, `jira://…`).

apprise answers only yes or no, so every failure has the reason `protocol` (or `timeout`) and what the library logged as its detail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from vedette.configfile import option
from vedette.errors import BadInput, Undeliverable
from vedette.model.durations import parse_go_duration
from vedette.notify.channels.posting import TIMEOUT_S, Http, cut, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice, Receipt
from vedette.notify.template import Templates

MAX_DETAIL = 300


def _library() -> Any:
    try:
        import apprise
    except ImportError:
        raise BadInput("apprise is not installed", hint="pip install 'vedette[channels]'") from None
    return apprise


def _service(url: str) -> Any:
    """What apprise makes of a URL. Raises `BadInput`; the URL is a secret and is not shown."""
    made = _library().Apprise.instantiate(url, suppress_exceptions=True)
    if made is None:
        scheme = url.partition("://")[0][:20] if "://" in url else ""
        raise BadInput(
            f"apprise cannot make anything of this {scheme + ' ' if scheme else ''}URL", where="url", hint="see apprise's own list"
        )
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseConfig:
    """One of `apprise_configs`; `timeout` in ms, 0 for the usual one."""

    url: str = option("", secret=True)
    url_file: str = ""
    send_resolved: bool = True
    title: str = '{{ template "__subject" . }}'
    text: str = '{{ template "sms.default.text" . }}'
    body_format: Literal["text", "markdown", "html"] = "text"
    timeout: int = option(0, convert=parse_go_duration)

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.url_file):
            raise BadInput(("at most" if self.url else "exactly") + " one of url & url_file must be configured")
        if self.url and self.url != "<secret>":
            _service(self.url)


class Apprise:
    """One service of one receiver."""

    kind = "apprise"

    def __init__(self, config: AppriseConfig, _fallback: GlobalConfig, _http: Http, templates: Templates) -> None:
        self.send_resolved = config.send_resolved
        self._config, self._templates = config, templates

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """As `notice.Channel` promises."""
        title, text, service = await asyncio.to_thread(self._letter, notice)
        await leaving()
        limit = min(seconds, self._config.timeout / 1000 or TIMEOUT_S)
        try:
            # The thread may outlive the limit: apprise has limits of its own, and cannot be interrupted.
            async with asyncio.timeout(limit):
                problem = await asyncio.to_thread(self._notify, service, title, text, notice.status)
        except TimeoutError:
            raise Undeliverable(f"apprise did not end within {limit:g} s", reason="timeout", retryable=True) from None
        if problem is not None:
            raise Undeliverable(problem, reason="protocol", retryable=True)
        return Receipt("apprise")

    def _letter(self, notice: Notice) -> tuple[str, str, Any]:
        config, words = self._config, self._templates.over(notice)
        write = words.html if config.body_format == "html" else words.text
        return words.text(config.title), write(config.text), _service(secret(config.url, config.url_file))

    def _notify(self, service: Any, title: str, text: str, status: str) -> str | None:
        """None where it was taken, else what is wrong."""
        library = _library()
        kind = library.NotifyType.FAILURE if status == "firing" else library.NotifyType.SUCCESS
        with library.LogCapture(level=logging.WARNING) as said:
            one = library.Apprise()
            one.add(service)
            taken = one.notify(body=text, title=title, notify_type=kind, body_format=self._config.body_format)
            heard = " ".join(said.getvalue().split()) if said else ""
        return None if taken else cut(f"{service.service_name} did not take it: {heard or 'no reason given'}", MAX_DETAIL)

    async def close(self) -> None:
        """Nothing is kept open."""
