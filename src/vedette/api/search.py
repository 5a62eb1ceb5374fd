"""`/api/v1/search/metric_names`, `/label_names` and `/label_values`: names found by parts of them, as Prometheus' search API finds them.

Answers are lines of JSON: batches of results, then one line that says whether there were more. Not here: how a name's score is
found (`scores.py`), nor the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Handler, Param, Run
from vedette.api.params import Form, form_of, integer, selected, time_of
from vedette.api.scores import ALGORITHMS, Score, scorer
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput
from vedette.model.labels import METRIC_NAME
from vedette.model.matchers import Matcher
from vedette.storage.interface import Storage

NDJSON = "application/x-ndjson; charset=utf-8"
_HOUR_MS = 3_600_000
_LIMIT = _BATCH = 100
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
What = Literal["metric_names", "label_names", "label_values"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for; `order` is alpha, its reverse, or by score."""

    score: Score
    order: Literal["up", "down", "score"]
    with_score: bool
    with_metadata: bool
    limit: int
    batch: int


@dataclass(frozen=True, slots=True)
class Search:
    """The operations over the index of one storage."""

    storage: Storage
    run: Run
    clock: Clock
    parse_selector: Callable[[str], Sequence[Matcher]]
    tenant_of: Callable[[Mapping[str, Any]], str]

    async def metric_names(self, request: Request) -> Response:
        """Names of metrics, with what is known of them where that is asked for."""
        return await self._found(request, "metric_names")

    async def label_names(self, request: Request) -> Response:
        """Names of labels."""
        return await self._found(request, "label_names")

    async def label_values(self, request: Request) -> Response:
        """Values of one label."""
        return await self._found(request, "label_values")

    async def _found(self, request: Request, what: What) -> Response:
        form, tenant = await form_of(request), self.tenant_of(request)
        now = now_ms(self.clock)
        start, end = time_of(form, "start", now - _HOUR_MS), time_of(form, "end", now)
        sets = await selected(form, self.parse_selector, self.run)
        asked = _asked(form, what)
        name = METRIC_NAME if what == "metric_names" else form.text("label")
        if not name and what == "label_values":
            raise BadInput('missing required parameter "label"')

        def read() -> bytes:
            if what == "label_names":
                found = self.storage.label_names(tenant, sets, start, end)
            else:
                found = self.storage.label_values(tenant, name, sets, start, end)
            return b"".join(self._lines(tenant, found, asked))

        return Response(await self.run(read), media_type=NDJSON)

    def _lines(self, tenant: str, found: Sequence[str], asked: _Asked) -> Iterator[bytes]:
        scored = [(name, score) for name in found if (score := asked.score(name)) is not None]
        if asked.order == "score":
            scored.sort(key=lambda one: (-one[1], one[0].encode("utf-8", "surrogatepass")))
        else:
            scored.sort(key=lambda one: one[0].encode("utf-8", "surrogatepass"), reverse=asked.order == "down")
        shown = scored[: asked.limit]
        for at in range(0, max(1, len(shown)), asked.batch):
            batch = [self._shown(tenant, name, score, asked) for name, score in shown[at : at + asked.batch]]
            yield orjson.dumps({"results": batch}) + b"\n"
        yield orjson.dumps({"status": "success", "has_more": len(scored) > asked.limit}) + b"\n"

    def _shown(self, tenant: str, name: str, score: float, asked: _Asked) -> dict[str, object]:
        shown: dict[str, object] = {"name": name}
        if asked.with_score:
            shown["score"] = score
        if asked.with_metadata and (known := self.storage.metadata(tenant, name)):
            shown |= {key: text for key, text in (("type", known[0].type), ("help", known[0].help), ("unit", known[0].unit)) if text}
        return shown


def _asked(form: Form, what: What) -> _Asked:
    """Raises `BadInput` in Prometheus' words."""
    searches = form.texts("search[]")
    threshold = _number(form, "fuzz_threshold", 0, "0-100", most=100)
    algorithm = form.text("fuzz_alg") or ALGORITHMS[0]
    if algorithm not in ALGORITHMS:
        raise BadInput(f'unsupported fuzz_alg "{algorithm}": must be one of [{" ".join(ALGORITHMS)}]')
    score = scorer(searches, algorithm, threshold / 100, case_sensitive=_boolean(form, "case_sensitive", default=True))
    by, way = form.text("sort_by"), form.text("sort_dir")
    if way and not by:
        raise BadInput("sort_dir is only valid when sort_by is set")
    if way and by == "score":
        raise BadInput("sort_dir is not supported for sort_by=score")
    if way not in ("", "asc", "dsc"):
        raise BadInput(f'invalid sort_dir "{way}": must be "asc" or "dsc"')
    if by == "score" and not searches:
        raise BadInput("sort_by=score requires search[] to be set")
    if by not in ("", "alpha", "score"):
        raise BadInput(f'invalid sort_by "{by}" for {what}: must be "alpha" or "score"')
    return _Asked(
        score,
        "score" if by == "score" else "down" if way == "dsc" else "up",
        _boolean(form, "include_score", default=False),
        what == "metric_names" and _boolean(form, "include_metadata", default=False),
        _number(form, "limit", 0, "non-negative integer") or _LIMIT,
        _number(form, "batch_size", 0, "non-negative integer") or _BATCH,
    )


def _number(form: Form, name: str, absent: int, expected: str, *, most: int = 1 << 62) -> int:
    text = form.text(name)
    if not text:
        return absent
    try:
        value = integer(text)
    except BadInput:
        value = -1
    if not 0 <= value <= most:
        raise BadInput(f'invalid {name} "{text}": must be {expected}')
    return value


def _boolean(form: Form, name: str, *, default: bool) -> bool:
    text = form.text(name)
    if text and text not in _TRUE and text not in _FALSE:
        raise BadInput(f'invalid {name} "{text}": must be boolean')
    return text in _TRUE if text else default


def endpoints(search: Search) -> list[Endpoint]:
    """The operations of this room."""
    params = (
        Param("search[]", "texts", "What is looked for; a name is found by any of them. Without it all names are."),
        Param("match[]", "texts", "Selectors; names of what any of them selects."),
        Param("start", "time", "The start of the range; an hour ago if absent."),
        Param("end", "time", "The end of the range; now if absent."),
        Param("fuzz_alg", "text", "How names are scored: subsequence or jarowinkler."),
        Param("fuzz_threshold", "integer", "The least score, 0 to 100."),
        Param("case_sensitive", "boolean", "Whether case counts; it does if absent."),
        Param("sort_by", "text", "alpha or score."),
        Param("sort_dir", "text", "asc or dsc, of alpha."),
        Param("include_score", "boolean", "Say each name's score."),
        Param("limit", "integer", "The most names; 100 if absent."),
        Param("batch_size", "integer", "How many names a line has; 100 if absent."),
    )
    label = Param("label", "text", "The label's name.", required=True)
    about = Param("include_metadata", "boolean", "Say each metric's type, help and unit.")
    both = ("GET", "POST")

    def one(what: What, handler: Handler, about: str, *more: Param) -> Endpoint:
        path = f"/api/v1/search/{what}"
        return Endpoint(path, handler, about, both, (*more, *params), tag="labels", media="application/x-ndjson")

    return [
        one("metric_names", search.metric_names, "Search names of metrics", about),
        one("label_names", search.label_names, "Search names of labels"),
        one("label_values", search.label_values, "Search values of a label", label),
    ]
