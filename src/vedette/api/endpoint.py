"""One HTTP operation: its path, handler and description in one place, so that route and OpenAPI cannot disagree.

Handlers are plain Starlette coroutines: no model validation stands between a request and the engine. Not here: what
is refused and how it looks (`problems.py`), how answers are encoded (`answers.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vedette.errors import VedetteError

Handler = Callable[[Request], Awaitable[Response]]
AtOnceHandler = Callable[[MutableMapping[str, Any], Mapping[bytes, bytes], bytes], bytes | None]
"""Given the scope, the headers and the body of a request: the body of a success, None where only the handler knows."""
Kind = Literal["text", "time", "duration", "patience", "integer", "boolean", "texts"]
T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Run(Protocol):
    """Runs a blocking function on a worker thread and gives its result: `await run(function, *args)`."""

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Param:
    """A query or form parameter; `texts` may be repeated."""

    name: str
    kind: Kind
    about: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and what answers it.

    `handler` is a coroutine function of a request, or an object that is an ASGI application. `answer` is the JSON
    Schema of a success (None: any JSON), `body` the OpenAPI requestBody; a POST without one takes its parameters as
    a form. `media` is the media type of a success. `shared` says that the handler answers a CORS preflight too,
    `unfailing` that it raises nothing: either may be called without what stands around the others (`direct.py`). `at_once` gives
    what the handler would answer, where it has that without waiting (`at_once.py`). `extra` is what OpenAPI says besides:
    `description`, `responses` (of refusals, by status) and the `status` of a success.
    """

    path: str
    handler: Handler | ASGIApp
    about: str
    methods: tuple[str, ...] = ("GET",)
    params: tuple[Param, ...] = ()
    tag: str = "query"
    body: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None
    media: str = "application/json"
    shared: bool = False
    unfailing: bool = False
    at_once: AtOnceHandler | None = None
    extra: Mapping[str, Any] | None = None

    def route(self) -> Route:
        """The Starlette route; HEAD comes with GET."""
        methods = [*self.methods, "OPTIONS"] if self.shared else self.methods
        return Route(self.path, self.handler, methods=methods, name=self.path)


def routes(endpoints: Sequence[Endpoint]) -> list[Route]:
    """The routes of endpoints, in their order."""
    return [endpoint.route() for endpoint in endpoints]


def answering(handler: Handler, refuse: Callable[[VedetteError], Response], broken: Callable[[], Response]) -> Handler:
    """`handler` whose errors are answers: the five families by `refuse`, a fault of ours by `broken` and a log line."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except VedetteError as error:
            return refuse(error)
        except Exception:  # noqa: BLE001 - the edge of a request: one fault must not take the connection down; counted as a 500
            _log.exception("request failed", method=request.method, path=request.url.path)
            return broken()

    return answered
