"""What the channels that POST over HTTP share: one try within a time, secrets read when they are needed, texts cut to size."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from vedette.errors import Undeliverable
from vedette.net.answers import Answer
from vedette.net.config import read_secret
from vedette.notify.notice import Notice, Receipt
from vedette.notify.template import Templates, Words

TIMEOUT_S = 30.0
"""How long one try may take where the configuration does not say."""

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Http(Protocol):
    """What channels need of an HTTP client (`net.HttpClient`)."""

    async def get(self, url: str, *, timeout: float) -> Answer:  # noqa: ASYNC109 - as `net.HttpClient` has it
        """GET a URL. Raises `Undeliverable` where no answer comes."""
        ...

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 - as `net.HttpClient` has it
        headers: Mapping[str, str] | None = None,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """POST bytes, `leaving` awaited just before. Raises `Undeliverable` where no answer comes."""
        ...

    async def post_json(
        self,
        url: str,
        payload: Any,
        *,
        timeout: float,  # noqa: ASYNC109 - as `net.HttpClient` has it
        headers: Mapping[str, str] | None = None,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """POST a value as JSON; as `post`."""
        ...

    async def ask_json(
        self,
        method: str,
        url: str,
        payload: Any,
        *,
        timeout: float,  # noqa: ASYNC109 - as `net.HttpClient` has it
        headers: Mapping[str, str] | None = None,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """Ask by any method, with a value as JSON or None for no body; as `post`."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be POSTed: a value as JSON, or with `form` as a form."""

    url: str
    payload: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    form: bool = False


class HttpChannel:
    """A channel that delivers by one POST. A subclass says what is posted (`letter`) and whether the answer is a yes (`judge`)."""

    kind = ""
    timeout_ms = 0
    at_once = False
    """Whether `letter` neither reads files nor renders texts."""
    judged_by_status = False
    """Whether a status of 2xx is a yes whatever the answer says, so that one too long to be read is a yes, too."""

    def __init__(self, http: Http, templates: Templates, *, send_resolved: bool) -> None:
        self.send_resolved = send_resolved
        self._http, self._templates = http, templates

    def letter(self, notice: Notice, words: Words) -> Letter:
        """What tells of a notice. Called on a thread."""
        raise NotImplementedError

    def judge(self, answer: Answer) -> Receipt:
        """The receipt of a good answer; raises `Undeliverable` for another."""
        return Receipt(f"{answer.check().status}")

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """As `notice.Channel` promises."""
        if self.at_once and not notice.route_labels:
            letter = self.letter(notice, self._templates.over(notice))
        else:
            # On a thread: files are read, and the texts of a group of thousands take longer than the loop can wait.
            letter = await asyncio.to_thread(lambda: self.letter(notice, self._templates.over(notice)))
        try:
            answer = await self._post(letter, min(seconds, self.timeout_ms / 1000 or TIMEOUT_S), leaving)
        except Undeliverable as error:
            # Only a 2xx is read that far. Where the status is all that counts it is a yes; telling again would page again.
            if error.reason != "too_large" or not self.judged_by_status:
                raise
            return Receipt(f"2xx, {error}")
        return self.judge(answer)

    async def _post(self, letter: Letter, limit: float, leaving: Callable[[], Awaitable[None]]) -> Answer:
        if letter.form:
            body = urlencode(letter.payload).encode()
            return await self._http.post(letter.url, body, timeout=limit, headers={**_FORM, **letter.headers}, leaving=leaving)
        return await self._http.post_json(letter.url, letter.payload, timeout=limit, headers=letter.headers, leaving=leaving)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()


def secret(value: str, file: str) -> str:
    """A secret given inline or in a file, which is read for each notification, so that a rotated one needs no reload."""
    return value or (read_secret(file) if file else "")


def cut(text: str, limit: int) -> str:
    """A text of at most `limit` characters, its end marked where some are missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def group_id(notice: Notice) -> str:
    """What names the group to services that hold one incident for it: the SHA-256 of its key, as Alertmanager gives it."""
    return hashlib.sha256(notice.group_key.encode()).hexdigest()


def filled(**values: Any) -> dict[str, Any]:
    """The values that are there."""
    return {name: value for name, value in values.items() if value not in ("", None, [], {}, False)}
